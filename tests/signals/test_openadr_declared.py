"""The file that declares grid operators, and the commands that read it: what is wrong is told with place and next step."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from headrace.cli.signals import app
from headrace.core.errors import HeadraceError
from headrace.signals.declared import load_signals, read_secret

ROOT = Path(__file__).parents[2]
SITE = "  fjord: {connection: 50MW, simple: [80%, 60%, 10MW], emergency: 8MW}\n"
HEAD = "kind: vtn\nname: grid\nurl: https://vtn.example.org\nclient: c\nsecret: /s\nven: headrace\n"


def write(folder: Path, text: str) -> Path:
    """A file of signals."""
    path = folder / "signals.yaml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_the_example_is_valid_and_says_what_it_shows(tmp_path: Path) -> None:
    """Whoever copies it begins with something that is right."""
    (vtn,) = load_signals(write(tmp_path, (ROOT / "examples" / "signals.yaml").read_text()))
    (site,) = vtn.signals()
    assert (vtn.name, vtn.poll, vtn.deadline, vtn.programs) == ("lab-grid", 30_000, 10_000, ["flex"])
    assert site.simple_w == (2_960, 2_220, 1_500)
    assert (site.emergency_w, site.unreadable_w) == (1_480, 1_480)
    assert site.targets == {"glomfjord", "no4-flex"}
    assert site.zone == "Europe/Oslo"


def test_what_is_not_said_is_the_strictest_of_what_is(tmp_path: Path) -> None:
    """Where a limit can't be read, the least that was declared holds; the resource is called as the site is."""
    (vtn,) = load_signals(write(tmp_path, HEAD + "sites:\n" + SITE))
    (site,) = vtn.signals()
    assert site.unreadable_w == 8_000_000
    assert vtn.resources == {"fjord": "fjord"}
    assert not site.is_generation_positive


WRONG: dict[str, tuple[str, str]] = {
    "another kind": ("kind: engine\n", "signals.yaml:1:7 kind: 'engine' is no source of signals; known: vtn."),
    "nothing": ("", "no vtn in it. Begin with kind: vtn."),
    "no site": (HEAD + "sites: {}\n", "signals.yaml:7:8 sites"),
    "a mistyped field": (HEAD + "pol: 30s\nsites:\n" + SITE, "no field 'pol' here;"),
    "no secret": (HEAD.replace("secret: /s\n", "") + "sites:\n" + SITE, "secret is missing. Add secret."),
    "a relative secret": (HEAD.replace("/s", "s") + "sites:\n" + SITE, "'s' is no absolute path."),
    "plain http elsewhere": (
        HEAD.replace("https", "http") + "sites:\n" + SITE,
        "'http://vtn.example.org' is not encrypted. Write https://; plain http is for this machine alone",
    ),
    "no address": (HEAD.replace("https://vtn.example.org", "vtn:8080") + "sites:\n" + SITE, "'vtn:8080' is no address of a VTN."),
    "a password in it": (HEAD.replace("https://", "https://a:b@") + "sites:\n" + SITE, "is no address of a VTN."),
    "polling without pause": (HEAD + "poll: 10ms\nsites:\n" + SITE, "'10ms' is too short for polling: 1s to 1h."),
    "polling once a day": (HEAD + "poll: 1d\nsites:\n" + SITE, "'1d' is too long for polling: 1s to 1h."),
    "two levels": (HEAD + "sites:\n" + SITE.replace("60%, ", ""), "sites.fjord.simple: SIMPLE has 3 levels above 0."),
    "a level that allows more": (
        HEAD + "sites:\n" + SITE.replace("60%", "90%"),
        "sites.fjord.simple: a higher level of SIMPLE allows more than a lower one. Write what levels 1, 2 and 3 allow",
    ),
    "more than the connection": (
        HEAD + "sites:\n" + SITE.replace("8MW", "80MW"),
        "sites.fjord.emergency: it allows more than the connection. Lower it.",
    ),
    "a share beyond all": (HEAD + "sites:\n" + SITE.replace("80%", "180%"), "'180%' is more than all. At most 100%."),
    "a number without a unit": (
        HEAD + "sites:\n" + SITE.replace("8MW", "8"),
        "8 has no unit. Write a part of the connection like 60%, or a power like 12MW.",
    ),
    "no time zone": (HEAD + "sites:\n" + SITE.replace("}", ", zone: Oslo}"), "no time zone 'Oslo'."),
    "a direction that is none": (HEAD + "sites:\n" + SITE.replace("}", ", setpoint: up}"), "sites.fjord.setpoint"),
    "a name twice": (2 * (HEAD + "sites:\n" + SITE + "---\n"), "there is a vtn grid already. Give it another name."),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_with_its_place_and_the_next_step(
    text: str, words: str, tmp_path: Path
) -> None:
    """All of it at once, and in words."""
    with pytest.raises(HeadraceError) as found:
        load_signals(write(tmp_path, text))
    assert words in "\n".join(problem.line() for problem in found.value.problems)


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever changes it decides what a grid signal does."""
    path = write(tmp_path, HEAD + "sites:\n" + SITE)
    path.chmod(0o666)
    with pytest.raises(HeadraceError, match="everybody may write"):
        load_signals(path)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (b"s3cret\n", 0o600, ""),
        (b"s3cret", 0o400, ""),
        (b"s3cret", 0o640, "may be read by others"),
        (b"s3cret", 0o604, "may be read by others"),
        (b"", 0o600, "holds no secret of one line"),
        (b"two\nlines", 0o600, "holds no secret of one line"),
        (b"\xff\xfe", 0o600, "holds no text of plain letters"),
        (b"x" * 5_000, 0o600, "holds no secret of one line"),
    ],
)
def test_a_secret_is_one_line_that_its_user_alone_may_read(
    content: bytes, mode: int, words: str, tmp_path: Path
) -> None:
    """What is wrong is told, and the secret is not."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    if not words:
        assert read_secret(path) == "s3cret"
        return
    with pytest.raises(HeadraceError, match=words) as found:
        read_secret(path)
    assert "s3cret" not in str(found.value)


@pytest.mark.parametrize("what", ["missing", "folder", "pipe"])
def test_a_secret_that_is_no_file_is_told_and_waited_for_by_nobody(what: str, tmp_path: Path) -> None:
    """A pipe that nobody writes to would be read for ever."""
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path, 0o600)
    with pytest.raises(HeadraceError, match=f"{what};|is no file|can't be read"):
        read_secret(path)


@contextmanager
def vtn(folder: Path) -> Iterator[str]:
    """`headrace grid vtn` on a free port, until the block ends; its address."""
    code = (
        "import sys, typer; from headrace.cli.signals import app; typer.main.get_command(app)(sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-P",
        "-c",
        code,
        "grid",
        "vtn",
        "--port",
        "0",
        "--token-file",
        str(folder / "secret"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert "an OpenADR 3.1 VTN" in said
        process.stdout.readline()
        yield said.split(" on ")[1].split(";")[0]
        process.terminate()
        assert process.wait(20) == 0


def grid(*words: str) -> None:
    """A command of `headrace grid`."""
    typer.main.get_command(app)(["grid", *words], standalone_mode=False)


def test_a_newcomer_hears_what_is_announced_and_what_is_withdrawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The commands of the guide: a server, an announcement, what holds, its withdrawal."""
    with vtn(tmp_path) as url:
        assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
        text = (ROOT / "examples" / "signals.yaml").read_text()
        text = text.replace("http://127.0.0.1:8480", url).replace(
            "/etc/headrace/vtn.secret", str(tmp_path / "secret")
        )
        signals = str(write(tmp_path, text))
        operator = ("--vtn", url, "--token-file", str(tmp_path / "secret.operator"))
        grid("listen", "--signals", signals)
        assert "no instructions." in capsys.readouterr().out
        grid("announce", "IMPORT_CAPACITY_LIMIT", "2kW", "--for", "2h", *operator)
        event = capsys.readouterr().out.split()[-1]
        grid("announce", "SIMPLE", "3", "--target", "no4-flex", *operator)
        capsys.readouterr()
        grid("listen", "--signals", signals)
        out = capsys.readouterr().out
        assert "2 kW" in out
        assert "1.5 kW" in out
        assert "heard 0 s ago, asked every 30 s" in out
        grid("recall", event, *operator)
        capsys.readouterr()
        grid("listen", "--signals", signals, "--json")
        (state,) = json.loads(capsys.readouterr().out)
        assert [one["limit_w"] for one in state["instructions"]] == [1_500]
        for words, told in (
            (("announce", "PRICE", "1"), "no signal 'PRICE';"),
            (("announce", "SIMPLE", "high"), "Write a level from 0 to 3."),
            (("announce", "IMPORT_CAPACITY_LIMIT", "2"), "Write a power like 12MW."),
            (("recall", "event-99"), "no event has this id"),
        ):
            with pytest.raises(HeadraceError, match=told):
                grid(*words, *operator)
    with pytest.raises(HeadraceError, match="lab-grid: GET /auth/server: can't be reached"):
        grid("listen", "--signals", signals)
    assert "never heard" in capsys.readouterr().out


def test_nothing_is_announced_on_another_machine(tmp_path: Path) -> None:
    """It is for trying things out here."""
    with pytest.raises(HeadraceError, match="is not on this machine"):
        grid(
            "announce", "SIMPLE", "1", "--vtn", "https://vtn.example.org", "--token-file", str(tmp_path / "s")
        )
