"""The docs say what is true: nothing is undocumented, no link leads nowhere, every example is a valid oxfile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

PROMISES = 12
FENCE = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
# Written in pieces, so that this file does not hold what it looks for.
FORBIDDEN = ("/" + "work/", "pypi" + ".org", "pythonhosted" + ".org", "deb." + "debian.org")


def pages(root):
    names = [
        *root.glob("*.md"),
        *root.glob("docs/**/*.md"),
        *root.glob("examples/**/*.md"),
        *root.glob("changelog.d/*.md"),
    ]
    assert len(names) > 20
    return sorted(names)


def prose(path):
    """The text without code, where brackets mean something else."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def slug(heading):
    text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower())
    return text.replace(" ", "-")


def anchors(path):
    return {slug(line.lstrip("#")) for line in path.read_text().splitlines() if line.startswith("#")}


def test_every_link_leads_somewhere(root):
    """Relative links only name files and headings that are there."""
    broken = []
    for page in pages(root):
        for target in LINK.findall(prose(page)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{page.relative_to(root)}: {target}")
    assert broken == []


def test_every_page_can_be_reached_from_the_index(root):
    """A page that nothing links to is read by nobody."""
    index = root / "docs/index.md"
    reached, to_visit = set(), [index]
    while to_visit:
        page = to_visit.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        to_visit += [
            (page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(page)) if ":" not in link
        ]
    assert [str(page.relative_to(root)) for page in sorted((root / "docs").rglob("*.md")) if page not in reached] == []


def test_every_verb_is_documented(root):
    """Each command has its section in the reference."""
    from oxherd.cli.main import VERBS

    page = (root / "docs/reference/cli.md").read_text()
    assert [verb for verb in VERBS if not re.search(rf"^#+ .*\b{verb}\b", page, re.MULTILINE)] == []


def test_every_key_is_documented(root):
    """Each key of each table is in the reference of the oxfile."""
    from oxherd.config import keys

    page = (root / "docs/reference/oxfile.md").read_text()
    sections = (keys.TOP, keys.PROCESS, keys.HEALTH, keys.LIMITS, keys.LOGS, keys.WEBHOOK, keys.DEPLOY)
    missing = [f"{section.title} {name}" for section in sections for name in section.keys if f"`{name}`" not in page]
    assert missing == []


def test_every_promise_names_its_proof(root):
    """A promise is kept by a test file that exists, or it says plainly that it is not active yet."""
    text = (root / "docs/concepts/promises.md").read_text()
    sections = re.split(r"^## (\d+)\. ", text, flags=re.MULTILINE)[1:]
    numbers, bodies = sections[::2], sections[1::2]
    assert numbers == [str(number) for number in range(1, PROMISES + 1)]
    for number, body in zip(numbers, bodies, strict=True):
        proofs = re.findall(r"`(tests/[\w/]+\.py)`", body)
        assert proofs or "**Not active yet" in body, f"promise {number} names no proof"
        assert [proof for proof in proofs if not (root / proof).exists()] == [], f"promise {number}"


def test_every_oxfile_in_the_docs_is_valid(root, tmp_path):
    """What is shown can be typed."""
    from oxherd.errors import ConfigError
    from oxherd.programs.compiled import compile_stack

    broken, count = [], 0
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for number, text in enumerate(FENCE.findall(page.read_text())):
            if "[processes." not in text and "[[apps]]" not in text:
                continue
            count += 1
            oxfile = tmp_path / f"{number}.toml"
            oxfile.write_text(text)
            try:
                compile_stack(str(oxfile), environ={})
            except ConfigError as error:
                broken.append(f"{page.relative_to(root)}, example {number + 1}:\n{error.render()}")
    assert count > 5
    assert not broken, "\n".join(broken)


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:" + os.defpath) is None, reason="needs nginx")
def test_nginx_reads_its_guide(root, tmp_path):
    """The configuration is complete but for what nginx.conf has around it; the test listens on no port."""
    (text,) = re.findall(r"^```nginx\n(.*?)^```", (root / "docs/guides/nginx.md").read_text(), re.MULTILINE | re.DOTALL)
    listening = text.replace("listen 80;", f"listen unix:{tmp_path}/nginx.sock;")
    assert listening != text
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{listening}}}\n"
    )
    done = subprocess.run(
        ["nginx", "-t", "-q", "-c", str(config), "-e", "stderr"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/local/sbin:" + os.defpath},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_example_runs_without_a_warning(root):
    """examples/shop is what people copy first."""
    from oxherd.programs.compiled import compile_stack

    compiled = compile_stack(str(root / "examples/shop/oxfile.toml"), environ={})
    assert [problem.render() for problem in compiled.warnings] == []
    assert compiled.inactive == ()
    assert [(process.program, process.hosted) for process in compiled.oxfile.processes] == [
        ("generic", False),
        ("generic", True),  # an app, which no program is needed for
        ("celery-worker", False),
        ("celery-beat", False),
    ]


def test_no_place_of_one_machine_is_in_the_tree(root):
    """The project says nothing about where it was made or from where it was installed."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = []
    for name in listing.stdout.splitlines():
        path = root / name
        if path.is_file() and path.stat().st_size < 1 << 20:
            text = path.read_bytes().decode(errors="replace")
            found += [f"{name}: {word}" for word in FORBIDDEN if word in text]
    assert found == []


@pytest.mark.parametrize("heading", ["Unreleased"])
def test_the_changelog_has_a_place_for_what_comes(root, heading):
    assert f"## {heading}" in (root / "CHANGELOG.md").read_text()


KINDS = {"added", "changed", "fixed", "removed", "security", "docs"}


def test_every_changelog_fragment_is_well_formed(root):
    """``changelog.d/<slug>.<kind>.md``: one or more whole sentences."""
    wrong = []
    for path in sorted((root / "changelog.d").iterdir()):
        if path.name == "README.md":
            continue
        match = re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*\.([a-z]+)\.md", path.name)
        text = path.read_text().strip()
        if (
            not match
            or match.group(1) not in KINDS
            or not text
            or not text.endswith(".")
            or text.startswith(("-", "#"))
        ):
            wrong.append(path.name)
    assert wrong == []
