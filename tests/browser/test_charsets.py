"""Text is read as Chromium reads it, under every label of WHATWG Encoding and in all its octets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from smtp_blinker.web.reader import charsets

webencodings = pytest.importorskip("webencodings", reason="webencodings is not installed (pip)")

#: Labels of charsets that browsers read, for the safety of scripts, as nothing at all.
REPLACED = {"csiso2022kr", "hz-gb-2312", "iso-2022-cn", "iso-2022-cn-ext", "iso-2022-kr"}
LABELS = sorted(set(webencodings.LABELS) - REPLACED - {"replacement"})
#: Charsets of two octets, and how many pairs may be read otherwise: rare characters of HKSCS-2008.
PAIRS = {"gbk": 0, "gb18030": 0, "big5": 200, "euc-jp": 0, "shift_jis": 0, "euc-kr": 0}

PAGE = """<!doctype html><meta charset=utf-8><pre id=found></pre><script>
const codes = (label, octets) =>
  [...new TextDecoder(label).decode(new Uint8Array(octets))].map((each) => each.codePointAt(0));
const found = { octets: {}, pairs: {} };
for (const label of LABELS) {
  found.octets[label] = Array.from({ length: 256 }, (_, octet) => codes(label, [octet]));
}
for (const label of PAIRS) {
  found.pairs[label] = [];
  for (let first = 0x81; first < 0xff; first++) {
    for (let second = 0x30; second < 0xff; second++) {
      const read = codes(label, [first, second]);
      if (!read.includes(0xfffd)) found.pairs[label].push([first, second, read]);
    }
  }
}
document.getElementById("found").textContent = JSON.stringify(found);
</script>"""


def test_text_is_read_as_chromium_reads_it(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("SMTP_BLINKER_NO_SKIP", "0") not in ("", "0"):
            pytest.fail("chromium is missing: apt-get install chromium")
        pytest.skip("chromium is missing: apt-get install chromium")
    page = tmp_path / "page.html"
    page.write_text(
        PAGE.replace("LABELS", json.dumps(LABELS)).replace("PAIRS", json.dumps(list(PAIRS)))
    )
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    text = done.stdout.partition('<pre id="found">')[2].partition("</pre>")[0]
    found = json.loads(unescape(text))
    assert len(found["octets"]) == len(LABELS)
    for label, octets in found["octets"].items():
        for octet, read in enumerate(octets):
            if label.endswith(("2022jp", "2022-jp")) and octet in (0x0E, 0x0F):
                continue  # shifts, which are no text either way
            assert list(map(ord, charsets.decode(bytes([octet]), label))) == read, (label, octet)
    for label, pairs in found["pairs"].items():
        assert len(pairs) > 7000
        others = [
            (first, second)
            for first, second, read in pairs
            if list(map(ord, charsets.decode(bytes([first, second]), label))) != read
        ]
        assert len(others) <= PAIRS[label], (label, others[:20])
