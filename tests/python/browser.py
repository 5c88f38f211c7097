"""A headless Chromium, driven through its chromedriver (WebDriver over HTTP)."""

import base64
import json
import shutil
import subprocess
import urllib.request

from manager_process import DEADLINE_S, die_with_parent, wait_for

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference
ENTER, TAB = "\ue007", "\ue004"


def programs():
    """The browser and its driver; None: they are not installed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    return found if all(found) else None


class Browser:
    def __init__(self, directory):
        chromium, driver = programs()
        self._log = open(directory / "chromedriver.log", "w+")
        self._driver = subprocess.Popen(
            [driver, "--port=0"], stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )
        line = wait_for(self._ready, "chromedriver")
        self._url = "http://127.0.0.1:" + line.rstrip(".\n").rpartition(" ")[2]
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
                     f"--user-data-dir={directory}/profile"]  # fmt: skip
        capabilities = {"browserName": "chrome", "goog:chromeOptions": {"binary": chromium, "args": arguments}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._url += "/session/" + session["sessionId"]

    def _ready(self):
        self._log.seek(0)
        return next((line for line in self._log if "started successfully on port" in line), None)

    def _call(self, method, path, body=None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=2 * DEADLINE_S) as answer:
            return json.loads(answer.read())["value"]

    def open(self, url):
        self._call("POST", "/url", {"url": url})

    def run(self, script):
        """What a script's `return` gives."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def text(self):
        return self.run("return document.body.innerText")

    def type(self, keys):
        """Into what has the focus."""
        active = self._call("GET", "/element/active")[ELEMENT]
        self._call("POST", f"/element/{active}/value", {"text": keys})

    def emulate(self, width, height, scheme):
        cdp = "/goog/cdp/execute"
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("POST", cdp, {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self._call("POST", cdp, {"cmd": "Emulation.setEmulatedMedia", "params": media})

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self):
        try:
            self._call("DELETE", "")
        finally:
            self._driver.kill()
            self._driver.wait()
            self._log.close()
