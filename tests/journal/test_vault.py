"""Secrets and what is about a person: nowhere in plain, gone for good when they are erased, while the journal still verifies."""

from pathlib import Path

import pytest

from headrace.control import SYSTEM, Caller, Control
from headrace.core import commands as c
from headrace.core.authority import Role, Subject
from headrace.core.errors import HeadraceError
from headrace.core.workload import PolicyRef
from headrace.journal.sqlite import SqliteStore
from headrace.journal.vault import Vault, VaultEntry
from headrace.journal.verify import verify
from tests.journal.small import ACME, BOREALIS, SeededBytes, begun, job, keys, opened, submit

SECRET, PERSON, OTHER = "correct-horse-battery", "Ada-Lovelace-of-London", "the-other-tenants-secret"


def _everything(folder: Path) -> bytes:
    """All bytes of all files of a state."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _with_secrets(folder: Path) -> tuple[Control, str, str, str]:
    """A control loop with a secret of each of two tenants and a person's name; their references."""
    control = begun(folder)
    lawless = PolicyRef(countries=("SE",))
    (mine,) = submit(control, "k", job("mine", policy=lawless), secrets={"PASSWORD": SECRET})
    caller = Caller(Subject("token", "t-9", Role.TENANT_MEMBER, BOREALIS), 9)
    theirs = control.submit(caller, BOREALIS, [(job("theirs"), {"PASSWORD": OTHER})], "k", "d").workloads[0]
    person = control.keep(ACME, "token-holders", PERSON)
    control.execute(SYSTEM, c.IssueToken("1" * 64, Role.TENANT_MEMBER, ACME, person))
    control.commit()
    works = control.world.state.workloads
    return control, works[mine].spec.secrets["PASSWORD"], person, works[theirs].spec.secrets["PASSWORD"]


def test_no_file_of_the_state_holds_a_secret_or_a_name_in_plain(tmp_path: Path) -> None:
    """Neither the store, nor its log, nor a checkpoint; before and after the tenant is erased."""
    control, secret, person, _ = _with_secrets(tmp_path)
    control.checkpoint()
    assert control.reveal(secret) == SECRET
    assert control.reveal(person) == PERSON
    before = _everything(tmp_path)
    control.execute(SYSTEM, c.EraseTenant(ACME))
    control.commit()
    control.checkpoint()
    control.store.close()
    for data in (before, _everything(tmp_path)):
        assert b"borealis" in data
        for plain in (SECRET, PERSON, OTHER):
            assert plain.encode() not in data
            assert plain.encode().hex().encode() not in data


def test_an_erased_tenants_values_are_unreadable_now_and_after_every_restart(tmp_path: Path) -> None:
    """The other tenant's still open, and the journal verifies as before."""
    control, secret, person, theirs = _with_secrets(tmp_path)
    control.execute(SYSTEM, c.EraseTenant(ACME))
    control.commit()
    for _ in range(2):
        for ref in (secret, person):
            with pytest.raises(HeadraceError, match="was erased"):
                control.reveal(ref)
        assert control.reveal(theirs) == OTHER
        control.store.close()
        found = verify(tmp_path / "journal.sqlite", keys().public, replay=True)
        assert found.events == control.chain.size
        control = opened(tmp_path)
    control.store.close()


def test_a_copy_of_an_erased_value_can_not_be_opened_without_its_key(tmp_path: Path) -> None:
    """Whoever kept the encrypted value from before, in a backup, has nothing once the key is destroyed."""
    control, secret, _, _ = _with_secrets(tmp_path)
    kept = control.store.vault_entry(secret)
    control.execute(SYSTEM, c.EraseTenant(ACME))
    control.commit()
    assert all(key.tenant != ACME for key in control.store.vault_keys())
    with pytest.raises(HeadraceError, match="was erased"):
        control.vault.open(kept)
    control.store.close()


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a crash"])
def test_a_destroyed_key_lies_in_no_file_any_more(restarted: bool, tmp_path: Path) -> None:
    """Not in a free page of the store, not in its log: whoever has the master key and the disk has nothing."""
    control, secret, _, _ = _with_secrets(tmp_path)
    keys_before = [key.wrapped for key in control.store.vault_keys() if key.tenant == ACME]
    sealed = control.store.vault_entry(secret).sealed
    if restarted:
        # As if it had died right after the commit, before it emptied the log.
        control.store.query("delete from vault_keys where tenant = ?", (ACME,))
        control.store.query("delete from vault where tenant = ?", (ACME,))
        control = opened(tmp_path)
    control.execute(SYSTEM, c.EraseTenant(ACME))
    control.commit()
    left = _everything(tmp_path)
    assert len(keys_before) == 2
    assert all(wrapped not in left for wrapped in (*keys_before, sealed))
    control.store.close()


def test_an_erasure_that_was_not_committed_erased_nothing(tmp_path: Path) -> None:
    """Keys go in the transaction of the event that says so: a crash before it leaves both, or neither."""
    control, secret, _, _ = _with_secrets(tmp_path)
    control.execute(SYSTEM, c.EraseTenant(ACME))
    control.store.close()
    after = opened(tmp_path)
    assert after.reveal(secret) == SECRET
    assert not after.world.state.tenants[ACME].erased
    after.store.close()


def test_another_master_key_opens_no_vault(tmp_path: Path) -> None:
    """It is said at the start, not when the first secret is wanted."""
    control, _, _, _ = _with_secrets(tmp_path)
    control.store.close()
    store = SqliteStore(tmp_path / "journal.sqlite")
    strange = keys()
    strange.master = bytes(32)
    with pytest.raises(HeadraceError, match="master key does not open"):
        Control(store, strange, control.clock)
    store.close()


def test_a_value_can_not_be_moved_to_another_reference_or_tenant() -> None:
    """The reference and the tenant are part of what is sealed: exchanging rows of the store opens nothing."""
    vault = Vault(bytes(32), SeededBytes())
    mine, _ = vault.seal("acme", "secrets", SECRET)
    theirs, key = vault.seal("borealis", "secrets", OTHER)
    assert vault.open(mine) == SECRET
    for forged in (
        VaultEntry(theirs.ref, mine.tenant, mine.subject, mine.sealed),
        VaultEntry(mine.ref, theirs.tenant, theirs.subject, mine.sealed),
        VaultEntry(mine.ref, mine.tenant, mine.subject, mine.sealed[:-1] + bytes([mine.sealed[-1] ^ 1])),
    ):
        with pytest.raises(HeadraceError, match="does not open"):
            vault.open(forged)
    assert key is not None
    with pytest.raises(HeadraceError, match="master key does not open"):
        Vault(bytes(32)).load_key(type(key)("acme", key.subject, key.wrapped))


def test_a_refused_submission_leaves_no_secret_behind_that_nothing_refers_to(tmp_path: Path) -> None:
    """What can never be placed is not kept, and neither are its secrets; a repeated one keeps the first's alone."""
    control = begun(tmp_path)
    count = "select count(*) from vault"
    with pytest.raises(HeadraceError, match="can never be placed"):
        submit(control, "k", job("large", nodes=1_000), secrets={"PASSWORD": SECRET})
    control.commit()
    assert control.store.query(count) == [(0,)]
    first = submit(control, "l", job("small"), secrets={"PASSWORD": SECRET})
    assert submit(control, "l", job("small"), secrets={"PASSWORD": SECRET}) == first
    assert control.store.query(count) == [(1,)]
    control.store.close()
