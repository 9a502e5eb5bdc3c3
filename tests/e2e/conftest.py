"""Fixtures: an image built once, a home per test file whose end is checked for leaks, and the logs of what failed."""

import contextlib

import pytest

import harness


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    home = item.funcargs.get("home") if hasattr(item, "funcargs") else None
    if report.failed and home is not None:
        target = harness.keep_artifacts(home, item.nodeid)
        report.sections.append(("artefacts", str(target)))


@pytest.fixture(scope="session")
def image():
    """The image is there; its folder and the rest of the data are shared between runs."""
    home = harness.Home.make()
    try:
        harness.Agentvm(home).run("image", "build", timeout=1500)
    finally:
        with contextlib.suppress(harness.Failed):
            harness.Agentvm(home).run("manager", "stop", timeout=60)
        harness.remove(home)


@pytest.fixture(scope="module")
def home(image):
    made = harness.Home.make()
    try:
        yield made
        client = harness.Agentvm(made)
        for name in client.sandboxes():
            client.run("destroy", name, "--force")
        client.run("manager", "stop", code=(0, 2))
        left = harness.leaks(made)
        if left:
            harness.keep_artifacts(made, "leaks-" + made.folder.name)
        assert not left, "left behind:\n" + "\n".join(left)
    finally:
        harness.remove(made)


@pytest.fixture(scope="module")
def agentvm(home):
    return harness.Agentvm(home)
