"""Who may: the token that asks, tokens, and erasing a tenant."""

import typer

from headrace.cli.common import client, confirm, print_json, print_table, say

app = typer.Typer(rich_markup_mode=None)
token = typer.Typer(rich_markup_mode=None)
tenant = typer.Typer(rich_markup_mode=None)
app.add_typer(token, name="token")
app.add_typer(tenant, name="tenant")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")


@token.callback()
def token_group() -> None:
    """API tokens: issue, list, revoke."""


@tenant.callback()
def tenant_group() -> None:
    """What concerns a tenant as a whole."""


@app.command()
def whoami(as_json: bool = AS_JSON) -> None:
    """Say whose token this is and what it may do."""
    with client() as control:
        me = control.whoami()
    if as_json:
        print_json(me)
        return
    of = f" of {me.tenant}" if me.tenant else ""
    until = f", until {me.expires}" if me.expires else ""
    say(f"{me.token}: {me.role}{of}{until}")
    say(f"may: {', '.join(me.may)}")


@token.command()
def issue(
    role: str = typer.Argument(..., help="operator-admin, tenant-admin or tenant-member."),
    tenant: str | None = typer.Option(None, help="The tenant that it is bound to."),
    holder: str = typer.Option("", help="Who gets it; kept encrypted."),
    expires_in: str | None = typer.Option(
        None, help="How long it is good, like 90d [default: until it is revoked]."
    ),
    country: list[str] = typer.Option(
        [],
        help="From where its holder has access, like GB; may be repeated. Policies about people ask for it.",
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Issue a token; its value is printed this once and kept nowhere."""
    with client() as control:
        made = control.issue_token(role, tenant, holder=holder, expires_in=expires_in, countries=country)
    if as_json:
        print_json(made)
        return
    say(made.value)


@token.command("ls")
def list_tokens(as_json: bool = AS_JSON) -> None:
    """List tokens; never their values."""
    with client() as control:
        found = control.tokens()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.id,
            one.role,
            one.tenant or "-",
            one.holder,
            one.expires or "-",
            "revoked" if one.revoked else "good",
            ", ".join(one.countries) or "-",
        )
        for one in found
    ]
    print_table(("ID", "ROLE", "TENANT", "HOLDER", "EXPIRES", "STATE", "FROM"), rows, "no tokens.")


@token.command()
def revoke(
    ident: str = typer.Argument(..., metavar="ID", help="The token's id, as `headrace token ls` shows it."),
) -> None:
    """Let a token open nothing any more."""
    with client() as control:
        done = control.revoke_token(ident)
    say(f"revoked {done.name}" if done.changed else f"{done.name} was revoked already")


@tenant.command()
def erase(
    name: str = typer.Argument(..., help="The tenant."),
    yes: bool = typer.Option(False, "-y", "--yes", help="Don't ask."),
) -> None:
    """Destroy a tenant's keys, and with them its secrets and personal data, and its logs. Invoices and proofs stay."""
    with client() as control:
        if not confirm(f"Destroy the keys and logs of {name} for good?", yes=yes):
            say("nothing was erased.")
            raise typer.Exit(1)
        control.erase(name)
    say(f"the keys and logs of {name} are destroyed")
