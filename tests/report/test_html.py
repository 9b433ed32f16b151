"""The page of a run: complete, self-contained, accessible, and quiet in a browser."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxau import cli
from jaxau.report import html, tables


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + " "

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def path(run, tmp_path_factory, build_examples):
    out = tmp_path_factory.mktemp("page") / "new" / "run.html"
    return html.write_run_page(run[0], "synthetic", build_examples(), out)


@pytest.fixture(scope="module")
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def test_the_title_and_each_score_say_synthetic(path):
    source = path.read_text(encoding="utf-8")
    title = re.search("<title>(.*)</title>", source).group(1)
    assert "synthetic" in title and "LAC" in title and "16 unseen" in title
    for heading in re.findall(
        r"<h1>.*?</h1>|<caption.*?</caption>|<figcaption>.*?</figcaption>", source, re.S
    ):
        assert 'class="tag">synthetic<' in heading or "Seconds by phase" in heading, heading
    tiles = re.findall(r'<section class="tile">.*?</section>', source, re.S)
    assert len(tiles) == 3 and all("synthetic" in tile for tile in tiles)


def test_every_number_of_the_tables_is_on_the_page(run, page):
    text = " ".join(page.text.split())
    for stage in ("frames", "clips"):
        for row in tables.stage_table(run[1], stage).itertuples(index=False):
            assert all(" ".join(cell.split()) in text for cell in row[1:] if cell), row
    for name in ("pixels_logistic_regression", "always_on"):
        assert tables.interval(run[1]["baselines"][name]["mean"]) in text
    assert {"6f1d5b0c9a7e42d18f3b", "3a" * 32} <= set(text.split())
    for phrase in (
        "41 synthetic subjects",
        "960 frames",
        "synthetic-3fold, fold 1",
        "jaa256, 96 px",
        "181.4",
    ):
        assert phrase in text, phrase
    assert "jaxau predict VIDEO --checkpoint" in text and "configs/lac.py:bp4d,fold=1" in text


def test_nothing_is_fetched_and_the_page_is_small(path, page):
    for name, attributes in page.tags:
        for key in ("src", "href", "srcset", "data", "action"):
            if key in attributes:
                assert attributes[key].startswith(("data:", "#")), (name, attributes[key][:80])
        assert name not in ("script", "iframe", "object")
    assert "@import" not in path.read_text("utf-8") and "url(" not in path.read_text("utf-8")
    assert path.stat().st_size < 6e6


def test_the_page_is_accessible_by_structure(page):
    assert page.all("html")[0]["lang"] == "en" and len(page.all("h1")) == 1
    levels = [int(name[1]) for name, _ in page.tags if re.fullmatch("h[1-6]", name)]
    assert all(deeper <= level + 1 for level, deeper in zip(levels, levels[1:], strict=False))
    assert len(page.all("img")) == 9 and all(len(image["alt"]) > 20 for image in page.all("img"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 3
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert all(link["href"][1:] in identifiers for link in page.all("a"))
    for name, attributes in page.tags:
        if attributes.get("class") == "scroll":  # scrolls sideways, so the keyboard must reach it
            assert attributes["tabindex"] == "0" and attributes["role"] == "region", name
            labelled = attributes.get("aria-label") or attributes["aria-labelledby"] in identifiers
            assert labelled


def contrast(one, other):
    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast(path):
    source = path.read_text("utf-8")
    colour = dict(re.findall(r"--(\w+): (#\w{6})", source))
    for text in ("ink", "muted", "link"):
        assert contrast(colour[text], "#ffffff") > 4.5 and contrast(colour[text], colour["soft"]) > 4.5
    background, text = re.search(r"\.tag .*?background: (#\w{6}); color: (#\w{6})", source).groups()
    assert contrast(background, text) > 4.5


def test_parts_without_examples_are_left_out(run, tmp_path):
    bare = Page(html.write_run_page(run[0], "synthetic", {}, tmp_path / "x.html").read_text("utf-8"))
    identifiers = {attributes["id"] for _, attributes in bare.tags if "id" in attributes}
    assert {"scores", "training", "provenance", "next"} <= identifiers
    assert not {"localisation", "video", "faces", "time"} & identifiers
    assert all(link["href"][1:] in identifiers for link in bare.all("a"))


def test_a_run_on_real_faces_does_not_say_synthetic(build_run, tmp_path):
    build_run(tmp_path, synthetic=False)
    page = Page(html.write_run_page(tmp_path, "synthetic", {}, tmp_path / "x.html").read_text("utf-8"))
    # The corpus and the protocol of the simulated run keep their names.
    assert "synthetic" not in re.sub("[cC]orpus synthetic|synthetic-3fold", "", page.text)
    assert "rendered by a program" not in page.text


def test_a_model_trained_on_synthetic_faces_marks_scores_on_real_ones(build_run, tmp_path):
    build_run(tmp_path, synthetic=False)
    model = tmp_path / "clips" / "model" / "model.json"
    model.write_text(json.dumps(json.loads(model.read_text()) | {"synthetic": True}))
    source = html.write_run_page(tmp_path, "synthetic", {}, tmp_path / "x.html").read_text("utf-8")
    assert "synthetic" in re.search("<title>(.*)</title>", source).group(1)


def test_an_undefined_au_is_named_and_the_page_stands(build_run, tmp_path):
    build_run(tmp_path, undefined=24)
    page = Page(html.write_run_page(tmp_path, "synthetic", {}, tmp_path / "x.html").read_text("utf-8"))
    assert "AU24: no positive frame" in page.text and "mean of 11 AUs" in page.text


def test_text_from_outside_cannot_become_markup(run, examples, tmp_path):
    examples["video"]["title"] = "<script>alert(1)</script>"
    source = html.write_run_page(run[0], "synthetic", examples, tmp_path / "x.html").read_text("utf-8")
    assert "<script>" not in source and "&lt;script&gt;" in source


def test_a_run_that_is_not_scored_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"disfa.*scores.json: not found.*launch.evaluate"):
        html.write_run_page(run[0], "disfa", {}, tmp_path / "x.html")


def test_examples_that_do_not_belong_together_are_refused(run, examples, tmp_path):
    def write(changed):
        return html.write_run_page(run[0], "synthetic", changed, tmp_path / "x.html")

    with pytest.raises(ValueError, match=r"\['contactsheet'\]: unknown; the page shows .*'contact_sheet'"):
        write({"contactsheet": examples["contact_sheet"]})
    with pytest.raises(ValueError, match=r"video.truth has shape \(99, 12\), but video.timestamp counts 100"):
        write({"video": examples["video"] | {"truth": examples["video"]["truth"][1:]}})
    with pytest.raises(ValueError, match=r"localisation.attention has shape .*localisation.aus counts 11"):
        write({"localisation": examples["localisation"] | {"aus": examples["localisation"]["aus"][1:]}})


def console(browser, page, profile):
    """What a page says on the console of a fresh, offline browser."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}", "--window-size=500,900"]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def test_a_browser_opens_the_page_without_a_word_on_the_console(path, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on this machine to open the page in")
    assert console(browser, path, tmp_path / "one") == []
    # The same page with a broken picture, and with a script that reports how it was laid out: shows
    # that the console is heard, that every picture decoded, and that nothing hangs over the edge.
    probe = tmp_path / "probe.html"
    script = """<img src="missing.png"><script>onload = () => console.log("probe",
      [...document.images].filter(i => !i.naturalWidth).length,
      document.documentElement.scrollWidth - document.documentElement.clientWidth);
      throw new Error("heard")</script></body>"""
    probe.write_text(path.read_text("utf-8").replace("</body>", script), encoding="utf-8")
    said = " ".join(console(browser, probe, tmp_path / "two"))
    assert "Uncaught Error: heard" in said and "probe 1 0" in said, said


def test_pictures_are_valid(page):
    for image in page.all("img"):
        kind, content = image["src"].removeprefix("data:").split(";base64,")
        start = base64.b64decode(content)[:100]
        assert (b"WEBP" in start) if kind == "image/webp" else start.startswith(b"<?xml")


def test_the_command_writes_the_page_of_a_run(build_run, tmp_path, capsys):
    build_run(tmp_path)
    assert cli.main(["report", str(tmp_path)]) == 0
    page = tmp_path / "report.html"
    assert capsys.readouterr().out.strip() == str(page) and "16 unseen subjects" in page.read_text()
    assert cli.main(["report", str(tmp_path / "no_run")]) == 1
    assert "not scored yet (python -m launch.evaluate scores a run)" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path), "--corpus", "bp4d"]) == 1
    assert "eval/bp4d/scores.json: not found" in capsys.readouterr().err
