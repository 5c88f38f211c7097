"""The manager's dashboard in a real browser."""

import browser
import pytest
from browser import ENTER, TAB, Browser
from manager_process import wait_for
from PIL import Image

COUNTERS = {"reads": 300, "wait_us": 4_000_000, "s3_get_object": 20, "memory_hits": 150, "redis_hits": 130, "source_hits": 20}
TIERS = [{"tier": "memory", "place": "1", "used_bytes": 1_500_000_000, "limit_bytes": 2_000_000_000},
         {"tier": "disk", "place": "2", "used_bytes": 30_000_000, "limit_bytes": 40_000_000}]  # fmt: skip
HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def page(tmp_path):
    if browser.programs() is None:
        pytest.skip("chromium and chromedriver are not installed (cmake/install-dependencies test)")
    page = Browser(tmp_path)
    yield page
    page.close()


def shows(page, *texts):
    wait_for(lambda: all(text in page.text() for text in texts), f"{texts} on the page")


def test_the_dashboard(page, manager, s3_auth, tmp_path):
    token = manager.connect(s3_auth)
    new = {"name": HOSTILE, "node": "n" * 200, "datasource": {"bucket": "pets"}}
    job = manager.call("POST", "/v1/jobs", new, token).json
    manager.ended(job)
    failed = manager.register(token, bucket="no-such-bucket", name="broken")
    manager.ended(failed)

    def beat(**counters):
        report = {"report": {"counters": {**COUNTERS, **counters}, "tiers": TIERS}}
        assert manager.call("POST", f"/v1/jobs/{job['id']}/heartbeat", report, job["token"]).status == 200

    beat()
    page.emulate(1280, 900, "light")
    page.open(manager.url + "/")
    shows(page, "It is kept in this tab only.")
    page.type("a wrong token" + ENTER)  # the field has the focus
    shows(page, "the token is unknown or has expired")
    page.type(manager.admin + ENTER)
    shows(page, HOSTILE, "broken", "failed", "no-such-bucket", "pets", "93.3 %", "280", "300 read", "node memory", "1.5 GB of 2.0 GB", "30.0 MB of 40.0 MB")
    assert page.run("return document.title") == "Alnair"  # names are text
    assert page.run("return sessionStorage.length") == 1 and page.run("return localStorage.length") == 0
    beat(memory_hits=350, reads=500)  # it refreshes itself
    shows(page, "500 read", "480")
    metrics = manager.call("GET", "/metrics").body.decode()
    assert 'alnair_manager_job_hits_total{tier="memory"} 350\n' in metrics
    assert "alnair_manager_job_stalled_seconds_total 4\n" in metrics

    pictures = {}
    for name, width, height, scheme in (("light", 1280, 1200, "light"), ("dark", 1280, 1200, "dark"), ("phone", 390, 1800, "dark")):
        page.emulate(width, height, scheme)
        overflow = page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, name
        if name == "phone":  # names of any length: what is beside them stays in sight
            beyond = "return [...document.querySelectorAll('#jobs td')].filter((e) => e.getBoundingClientRect().right > innerWidth).length"
            assert page.run(beyond) == 0
        page.screenshot(tmp_path / f"{name}.png")
        pictures[name] = Image.open(tmp_path / f"{name}.png").convert("L")
        assert len(pictures[name].getcolors()) > 20, f"{name}.png is blank"
    assert pictures["light"].getpixel((3, 3)) > 200 > 60 > pictures["dark"].getpixel((3, 3))
    assert pictures["phone"].width == 390

    page.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(8):
        page.type(TAB)
        reached.append(page.run("return document.activeElement.id || document.activeElement.className"))
    assert {"skip", "leave", "filter", "jobs", "datasets", "tiers", "nodes"} <= set(reached), reached  # tables scroll by keys
    outside = "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith(location.origin))"
    assert page.run(outside) == []

    manager.kill()
    shows(page, "The manager does not answer", HOSTILE)  # what was known stays
    manager.start()
    wait_for(lambda: "The manager does not answer" not in page.text(), "the manager to be back")


def test_a_client_sees_what_is_its_own(page, manager, s3_auth):
    manager.ended(manager.register(manager.connect(s3_auth), name="of-alice"))
    manager.add_client("bob", "a-password-of-bob")
    page.open(manager.url + "/")
    page.type(manager.connect(s3_auth, "bob", "a-password-of-bob") + ENTER)
    shows(page, "No job is registered.", "No dataset has been listed.")
    assert "alice" not in page.text() and "S3 requests saved" not in page.text()
