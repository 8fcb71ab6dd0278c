"""The bill of materials that a wheel carries (PEP 770), as CycloneDX: ``make generated`` writes it.

It holds no time and no random number, so that the same sources give the same wheel. Nothing is bundled into the
package: listed are the packages that pip installs with it, each with the range that the metadata asks for.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

from azure_cloudshell_credential import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / ".ci" / "release" / "sbom.cdx.json"
NAME = re.compile(r"[A-Za-z0-9._-]+")


def read_pyproject() -> dict[str, Any]:
    """The content of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sbom() -> str:
    """The document."""
    project = read_pyproject()["project"]
    own = f"pkg:pypi/{project['name']}@{__version__}"
    optional = [each for extra in project["optional-dependencies"].values() for each in extra]
    required = [_component(each, "required") for each in project["dependencies"]]
    others = [_component(each, "optional") for each in optional if not each.startswith(project["name"])]
    components = sorted(required + others, key=lambda each: str(each["purl"]))
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": project["name"],
                "version": __version__,
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": own,
                "externalReferences": [{"type": "vcs", "url": project["urls"]["Source"]}],
            }
        },
        "components": components,
        "dependencies": [
            {"ref": own, "dependsOn": [each["bom-ref"] for each in components]},
        ],
        # All that is in the wheel is its own; what its dependencies depend on is not listed.
        "compositions": [
            {"aggregate": "complete", "assemblies": [own]},
            {"aggregate": "incomplete", "dependencies": [own]},
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(requirement: str, scope: str) -> dict[str, Any]:
    match = NAME.match(requirement)
    assert match, requirement
    purl = f"pkg:pypi/{match[0].lower()}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": match[0],
        "scope": scope,
        "purl": purl,
        "properties": [{"name": "python:requirement", "value": requirement}],
    }
