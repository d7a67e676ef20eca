"""The store on SQLite: commit groups, the vault and the projections, in one file and one transaction.

WAL with ``synchronous=FULL``: a commit returns after the log is synced, so that what was acknowledged survives the
loss of power. Readers (the planner, ``journal verify``) never wait for the writer.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from headrace.core.errors import HeadraceError, Problem, ProblemCode
from headrace.journal.codec import FORMAT, Group, Head
from headrace.journal.projections import TABLES, ProjectionRow
from headrace.journal.vault import VaultEntry, VaultKey, erased

_SCHEMA = """
create table if not exists meta (key text primary key, value text not null) without rowid;
create table if not exists groups (
  first integer primary key, count integer not null, at_ms integer not null,
  headers blob not null, bodies blob not null, root blob not null, signature blob not null);
create table if not exists vault_keys (
  tenant text not null, subject text not null, wrapped blob not null, primary key (tenant, subject)) without rowid;
create table if not exists vault (
  ref text primary key, tenant text not null, subject text not null, sealed blob not null) without rowid;
"""
_PAGES = (
    "pragma journal_mode=wal",
    "pragma synchronous=full",
    "pragma busy_timeout=5000",
    # What is deleted is overwritten: a destroyed key must not lie on in a free page.
    "pragma secure_delete=on",
)


_SYNC_BYTES = 1 << 22
"""A checkpoint is synced piece by piece: a commit, which goes to the same disk, must not wait for the whole of it."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _close_to_others(path: Path) -> None:
    """Let the file be its user's alone, whatever the umask; SQLite gives its log the same mode."""
    try:
        os.close(_private(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC))
        for one in path.parent.glob(f"{path.name}*"):
            one.chmod(0o600)
    except OSError as error:
        raise JournalUnavailable(f"{path.name}: {error}") from error


class JournalUnavailable(HeadraceError):
    """The store could not take a commit: nothing of it was acknowledged."""

    def __init__(self, why: str) -> None:
        step = "Free space or repair the disk under the state directory; nothing unacknowledged was kept."
        super().__init__(
            Problem(ProblemCode.JOURNAL_UNAVAILABLE, f"the journal can't be written: {why}.", step)
        )


class SqliteStore:
    """One state file. One writer at a time holds it (the state directory's lock sees to that)."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        self._is_scrubbed = False
        try:
            if readonly:
                self._db = sqlite3.connect(
                    f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
                )
            else:
                _close_to_others(path)
                self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                for pragma in _PAGES:
                    self._db.execute(pragma)
                self._db.executescript(_SCHEMA + "".join(table.schema for table in TABLES.values()))
                self._db.execute("insert or ignore into meta values ('format', ?)", (str(FORMAT),))
            found = self._db.execute("select value from meta where key = 'format'").fetchone()
        except sqlite3.Error as error:
            raise JournalUnavailable(f"{path.name}: {error}") from error
        if found is None or int(found[0]) > FORMAT:
            step = "Use the version of headrace that wrote it, or a newer one."
            raise HeadraceError(
                Problem(
                    ProblemCode.BROKEN,
                    f"{path.name} has format {found and found[0]}, this reads {FORMAT}.",
                    step,
                )
            )

    def append(
        self,
        group: Group | None,
        rows: Sequence[ProjectionRow] = (),
        keys: Sequence[VaultKey] = (),
        entries: Sequence[VaultEntry] = (),
        erase: Sequence[str] = (),
    ) -> None:
        """Commit a group with its projections and vault entries durably, or nothing; ``erase`` names tenants whose keys go.

        Raises JournalUnavailable when the store refuses (disk full, read-only).
        """
        db = self._db
        try:
            db.execute("begin immediate")
            if group is not None:
                head = group.head
                values = (
                    group.first,
                    group.count,
                    head.at_ms,
                    group.headers,
                    group.bodies,
                    head.root,
                    head.signature,
                )
                db.execute("insert into groups values (?,?,?,?,?,?,?)", values)
            self._insert_rows(rows)
            # Each statement gives the interpreter up and has to wait for it again: none that has nothing to do.
            if keys:
                db.executemany(
                    "insert or replace into vault_keys values (?,?,?)",
                    [(k.tenant, k.subject, k.wrapped) for k in keys],
                )
            if entries:
                db.executemany(
                    "insert or replace into vault values (?,?,?,?)",
                    [(e.ref, e.tenant, e.subject, e.sealed) for e in entries],
                )
            for tenant in erase:
                db.execute("delete from vault_keys where tenant = ?", (tenant,))
                db.execute("delete from vault where tenant = ?", (tenant,))
            db.execute("commit")
        except sqlite3.Error as error:
            self._rollback()
            raise JournalUnavailable(str(error)) from error
        if erase or not self._is_scrubbed:
            self._scrub()

    def _scrub(self) -> None:
        """Empty the log, in which destroyed keys still lie; when a reader holds it up, the next commit tries again."""
        with contextlib.suppress(sqlite3.Error):
            busy, _, _ = self._db.execute("pragma wal_checkpoint(truncate)").fetchone()
            self._is_scrubbed = not busy

    def _rollback(self) -> None:
        # What made the commit fail may make this fail too; the store then refuses the next one as well.
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("rollback")

    def _insert_rows(self, rows: Sequence[ProjectionRow]) -> None:
        by_table: dict[str, list[tuple[object, ...]]] = {}
        for row in rows:
            by_table.setdefault(row.table, []).append(row.values)
        for name, values in by_table.items():
            self._db.executemany(TABLES[name].insert, values)

    def groups(self, first: int = 0) -> Iterator[Group]:
        """Commit groups from the one that holds event ``first`` on, in order."""
        found = self._db.execute("select max(first) from groups where first <= ?", (first,)).fetchone()
        query = "select first, count, at_ms, headers, bodies, root, signature from groups where first >= ? order by first"
        rows = self._db.execute(query, (found[0] or 0,))
        while True:
            try:
                row = rows.fetchone()
            except sqlite3.Error as error:
                step = "Restore a backup: the file itself is damaged."
                raise HeadraceError(
                    Problem(ProblemCode.BROKEN, f"{self.path.name} can't be read: {error}.", step)
                ) from error
            if row is None:
                return
            number, count, at_ms, headers, bodies, root, signature = row
            yield Group(number, count, headers, bodies, Head(number + count, at_ms, root, signature))

    def group_sizes(self) -> Iterator[tuple[int, int]]:
        """(first, count) of every commit group, in order."""
        yield from self._db.execute("select first, count from groups order by first")

    def size(self) -> int:
        """Events in the store."""
        found = self._db.execute("select first + count from groups order by first desc limit 1").fetchone()
        return int(found[0]) if found else 0

    def vault_keys(self) -> list[VaultKey]:
        """Every wrapped data key."""
        return [VaultKey(*row) for row in self._db.execute("select tenant, subject, wrapped from vault_keys")]

    def vault_entry(self, ref: str) -> VaultEntry:
        """The encrypted value of a reference; raises HeadraceError when it was erased."""
        row = self._db.execute(
            "select ref, tenant, subject, sealed from vault where ref = ?", (ref,)
        ).fetchone()
        if row is None:
            raise erased(ref)
        return VaultEntry(*row)

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints lie: files beside the store, since each is a cache that its own process can make again."""
        return self.path.parent / "checkpoints"

    def save_checkpoint(
        self, size: int, digest: bytes, signature: bytes, state: bytes, keep: int = 2
    ) -> None:
        """Keep a checkpoint of the world after ``size`` events, and the ``keep`` newest ones."""
        folder = self.checkpoint_folder
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            temporary = folder / f".{size}"
            with open(temporary, "wb", opener=_private) as file:
                file.write(digest + signature)
                for at in range(0, len(state), _SYNC_BYTES):
                    file.write(memoryview(state)[at : at + _SYNC_BYTES])
                    file.flush()
                    os.fsync(file.fileno())
            temporary.rename(folder / f"{size:020d}")
        except OSError as error:
            raise JournalUnavailable(f"checkpoint {size}: {error}") from error
        for old in sorted(folder.glob("[0-9]*"))[:-keep]:
            old.unlink()
        for left in folder.iterdir():
            # What a crash left half written, or a planner wrote for a control plane that had died.
            words = left.name.rpartition("-" if left.name.startswith("unsigned-") else ".")
            if words[1] and words[2].isdigit() and int(words[2]) < size:
                left.unlink(missing_ok=True)

    def checkpoints(self) -> Iterator[tuple[int, bytes, bytes, bytes]]:
        """(size, digest, signature, state) of the checkpoints, newest first."""
        for path in sorted(self.checkpoint_folder.glob("[0-9]*"), reverse=True):
            data = path.read_bytes()
            yield int(path.name), data[:32], data[32:96], data[96:]

    def rebuild(self, rows: Iterable[ProjectionRow], batch: int = 10_000) -> None:
        """Drop every projection and fill it from ``rows`` (a replay), in one transaction."""
        self._db.execute("begin immediate")
        try:
            for name in TABLES:
                self._db.execute(f"delete from {name}")  # noqa: S608 - a name of TABLES
            pending: list[ProjectionRow] = []
            for row in rows:
                pending.append(row)
                if len(pending) >= batch:
                    self._insert_rows(pending)
                    pending.clear()
            self._insert_rows(pending)
            self._db.execute("commit")
        except BaseException:
            self._rollback()
            raise

    def query(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Rows of a projection."""
        return self._db.execute(sql, tuple(values)).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._db.close()
