"""The browser that tests look at pages with sees what a person would."""

from __future__ import annotations

from pathlib import Path

from browser import browser, needs_browser

PAGE = """<!doctype html><title>Page</title><body style="margin:0;height:3000px">
<div id="host"></div><button onclick="document.title = 'Clicked'">Go</button>
<script>
  document.querySelector("#host").attachShadow({mode: "open"}).innerHTML = "<canvas></canvas><p>inside</p>";
  console.error("on purpose", 7);
  setTimeout(() => { throw new Error("late"); }, 0);
  fetch("http://127.0.0.1:9/nothing").catch(() => {});
</script>"""


@needs_browser
def test_a_page_is_opened_looked_at_and_clicked(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE)
    with browser(width=400, height=300) as chromium:
        page = chromium.open((tmp_path / "page.html").as_uri(), scheme="dark")
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        assert page.count("canvas") == 1
        assert page.text("p") == "inside"
        page.click("button")
        page.wait_for("document.title == 'Clicked'")
        assert page.requests == [(tmp_path / "page.html").as_uri(), "http://127.0.0.1:9/nothing"]
        assert "error: on purpose 7" in page.errors
        assert any("late" in error for error in page.errors)
        window, whole = page.screenshot(tmp_path / "window.png"), page.screenshot(tmp_path / "whole.png", whole=True)
        assert [int.from_bytes(file.read_bytes()[20:24]) for file in (window, whole)] == [300, 3000]
        assert page.memory() > 0
