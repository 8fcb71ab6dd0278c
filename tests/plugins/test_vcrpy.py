"""vcrpy: the requests for tokens are in no cassette; those to Azure carry the token, so that header is left out."""

import machines
import vcr


def test_a_cassette_holds_no_token(cloud_shell_azure, tmp_path):
    cassette = tmp_path / "machines.yaml"
    for _ in range(2):  # recorded, then played back
        cloud_shell_azure.resource_manager.requests.clear()
        with vcr.use_cassette(str(cassette), filter_headers=["authorization"], match_on=["path"]):
            assert machines.names()[0] == "web-01"
    assert cloud_shell_azure.resource_manager.requests == []
    assert "eyJ" not in cassette.read_text()
    assert "oauth2/token" not in cassette.read_text()
