"""Certificates for servers of tests, made by openssl."""

import subprocess
from pathlib import Path

OPENSSL_S = 30


def certificate(folder: Path, name: str, *addresses: str) -> None:
    """Make NAME.crt and NAME.key in a folder: valid for the addresses, self-signed, and so its own CA."""
    valid_for = ",".join(f"IP:{address}" for address in addresses)
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} "
        f"-addext subjectAltName={valid_for} -keyout {name}.key -out {name}.crt".split(),
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=OPENSSL_S,
    )
