"""Log in to a database as the signed-in user: the token in the form that each driver wants.

Azure SQL takes it as a connection attribute of the ODBC driver, Azure Database for PostgreSQL and MySQL as the
password. Without a server it only shows the forms, not the token. Needs ``pip install azure-cloudshell-credential``,
and ``pyodbc`` for ``--sql-server``::

    python examples/database_token.py [--sql-server NAME.database.windows.net]
"""

import argparse
import struct

from azure_cloudshell_credential import DefaultCloudShellCredential

# From msodbcsql.h; see "Using Microsoft Entra ID with the ODBC Driver".
SQL_COPT_SS_ACCESS_TOKEN = 1256


def for_odbc(token: str) -> bytes:
    """The token as the ODBC driver's attribute: its length, then UTF-16 without a byte order mark."""
    encoded = token.encode("utf-16-le")
    return struct.pack("<i", len(encoded)) + encoded


def main() -> None:
    parser = argparse.ArgumentParser(description="Log in to a database as the signed-in user.")
    parser.add_argument("--sql-server", metavar="HOST", help="connect to it, with pyodbc")
    server = parser.parse_args().sql_server

    with DefaultCloudShellCredential() as credential:
        attribute = for_odbc(credential.get_token("https://database.windows.net/.default").token)
        print(f"Azure SQL: attrs_before={{{SQL_COPT_SS_ACCESS_TOKEN}: <{len(attribute)} bytes>}}")
        password = credential.get_token("https://ossrdbms-aad.database.windows.net/.default").token
        print(f"PostgreSQL, MySQL: password=<{len(password)} characters>")
        if server:
            import pyodbc

            connection = pyodbc.connect(
                f"Driver={{ODBC Driver 18 for SQL Server}};Server={server}",
                attrs_before={SQL_COPT_SS_ACCESS_TOKEN: attribute},
            )
            print(connection.execute("SELECT SUSER_SNAME()").fetchone()[0])


if __name__ == "__main__":
    main()
