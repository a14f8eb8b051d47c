"""`ota-server tls`: the certificates of servers and of enrolment."""

from typing import Annotated

import typer
from cryptography.x509 import Certificate

from server.clock import utc_now
from server.commands.options import DatabaseOption, HomeArgument, StoreOption, open_home
from server.identity.authority import CREDENTIAL_NAME
from server.identity.certificates import names_of
from server.identity.fleet import renew_enrolment
from server.registry.identities import Identities

app = typer.Typer(help="The certificates of servers and of enrolment.", no_args_is_help=True)


@app.command("renew")
def renew(
    home: HomeArgument,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="How devices reach the server, beside loopback; as before without it. Repeatable.",
        ),
    ] = None,
    is_enrolment: Annotated[
        bool,
        typer.Option("--enrolment", help="Renew HOME/ca.pem instead; the older one ends."),
    ] = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Make a new certificate; a server that runs takes it up with its next connection.

    Example: ota-server tls renew srv --name ota.example.org
    """
    with open_home(home, database, store) as opened:
        authority, now = opened.authority(), utc_now()
        if is_enrolment:
            renew_enrolment(authority, opened.registry, now)
            print(f"{home / CREDENTIAL_NAME} is new; devices that are enrolled need it no more")
            return
        chosen = authority.renew_server(names or (), now)
        certificate = authority.server_certificate()
        details = {"names": list(chosen)}
        Identities(opened.registry).record("tls.renew", _end(certificate), details, now)
    print(f"the server is {', '.join(chosen)}, until {_end(certificate)}")


@app.command("show")
def show_tls(
    home: HomeArgument, database: DatabaseOption = None, store: StoreOption = None
) -> None:
    """Say which names the server's certificate has, and when certificates end.

    Example: ota-server tls show srv
    """
    with open_home(home, database, store) as opened:
        authority = opened.authority()
    certificate = authority.server_certificate()
    print(f"authority          {authority.sha256.hex()}")
    print(f"authority ends     {_end(authority.devices.certificate)}")
    print(f"server             {', '.join(names_of(certificate))}")
    print(f"server ends        {_end(certificate)}")


def _end(certificate: Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
