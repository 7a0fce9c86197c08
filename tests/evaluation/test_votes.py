"""The human study: blind pairs, a page that works in a real browser, shares with intervals."""

import csv
import json
import math

import pytest
import torch
from browser import FLAGS, missing_browser

from show1_engine.__main__ import main
from show1_engine.errors import InputError
from show1_engine.evaluation.sets import folder_clips
from show1_engine.evaluation.votes import Look, agreement_of, tally, wilson, write_pairs
from show1_engine.video import VideoReader, write_mp4

QUESTIONS = ("quality", "alignment", "motion")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Six pairs of two models whose clips differ in length, size and rate."""
    folder = tmp_path_factory.mktemp("study")
    for name, shape, fps in (("model_one", (20, 48, 64), 7.5), ("model_two", (9, 64, 40), 24.0)):
        (folder / name).mkdir()
        for i in range(6):
            red, green = (1.0, 0.0) if name == "model_one" else (0.0, 1.0)
            frames = torch.tensor([red, green, i / 8]).expand(*shape, 3)
            write_mp4(folder / name / f"clip{i}.mp4", frames, fps)
            (folder / name / f"clip{i}.txt").write_text(f"prompt <b>{i}</b>")
    out = folder / "study"
    arguments = [str(folder / "model_one"), str(folder / "model_two"), "--out", str(out)]
    assert main(["evaluate", "pairs", *arguments, "--size", "64", "--per-page", "4"]) == 0
    return out


def key_of(study):
    with (study / "key.csv").open() as file:
        return list(csv.DictReader(file))


def test_pairs_are_alike_and_the_key_says_which_is_which(study):
    rows = key_of(study)
    assert sorted(row["clip"] for row in rows) == [f"clip{i}" for i in range(6)]
    assert {row["a"] for row in rows} == {"model_one", "model_two"}, (
        "one side would always be first"
    )
    assert [row["clip"] for row in rows] != sorted(row["clip"] for row in rows)
    for row in rows:
        for side in "ab":
            with VideoReader(study / "clips" / f"{row['pair']}-{side}.mp4") as video:
                frames = torch.stack(list(video))
                assert video.fps == 8
            assert frames.shape == (16, 64, 64, 3)
            model = "model_one" if float(frames[0, 32, 32, 0]) > 0.5 else "model_two"
            assert model == row[side]


def test_pages_hold_the_clips_and_name_no_model(study):
    pages = sorted(study.glob("page-*.html"))
    assert [page.read_text().count("data:video/mp4") for page in pages] == [8, 4]
    for page in pages:
        text = page.read_text()
        assert "model_one" not in text and "model_two" not in text
        assert "http" not in text and "<b>" not in text


def test_the_same_seed_makes_the_same_study(study, tmp_path):
    sides = [(name, folder_clips(study.parent / name)) for name in ("model_one", "model_two")]
    write_pairs(*sides, tmp_path, look=Look(size=32), seed=0)
    assert (tmp_path / "key.csv").read_text() == (study / "key.csv").read_text()


def test_sides_must_have_clips_in_common(study, tmp_path):
    clips = folder_clips(study.parent / "model_one")
    with pytest.raises(InputError, match="matched by name"):
        write_pairs(("a", clips), ("b", []), tmp_path, look=Look())
    with pytest.raises(InputError, match="two names"):
        write_pairs(("a", clips), ("a", clips), tmp_path, look=Look())


@pytest.fixture
def browser():
    if reason := missing_browser():
        pytest.skip(reason)
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("phone", [False, True])
def test_a_rater_can_vote(study, browser, tmp_path, phone):
    """By keyboard on a desk, by touch on a phone, without a network; what is saved is counted."""
    size = {"width": 390, "height": 780} if phone else {"width": 1200, "height": 900}
    context = browser.new_context(viewport=size, has_touch=phone, offline=True)
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((study / "page-1.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    page.wait_for_function("document.getElementById('va').readyState >= 2", timeout=10_000)
    assert page.locator("#prompt").inner_text().startswith("prompt <b>")
    for pair in range(4):
        assert page.locator("#place").inner_text() == f"{pair + 1} of 4"
        assert page.locator("#next").is_disabled()
        if phone:
            for question in range(3):
                page.locator("fieldset").nth(question).locator("button").nth(2).tap()
            page.locator("#next").tap()
        else:
            for key in ("a", "2", "B", "ArrowRight"):
                page.keyboard.press(key)
    page.locator("#rater").fill('r1, "x"')
    with page.expect_download() as saved:
        page.locator("#save").click()
    saved.value.save_as(tmp_path / "votes.csv")
    assert complaints == []
    votes = list(csv.DictReader((tmp_path / "votes.csv").open()))
    assert len(votes) == 12
    wanted = {"b"} if phone else {"a", "tie", "b"}
    assert {row["choice"] for row in votes} == wanted
    shares = tally(study / "key.csv", [tmp_path / "votes.csv"])
    assert [share.question for share in shares] == list(QUESTIONS)
    assert all(share.votes == 4 for share in shares)
    context.close()


def test_votes_outlive_a_closed_tab(study, browser):
    page = browser.new_context().new_page()
    page.goto((study / "page-1.html").as_uri())
    for key in ("a", "a", "a", "ArrowRight", "b"):
        page.keyboard.press(key)
    page.reload()
    assert page.locator("#place").inner_text() == "2 of 4"
    assert page.locator("button[aria-pressed=true]").count() == 1
    page.keyboard.press("ArrowLeft")
    assert page.locator("button[aria-pressed=true]").count() == 3


# Counting


def written(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("rater", "pair", "question", "choice"), *rows])
    return path


def test_votes_are_counted_by_what_was_shown(study, tmp_path, capsys):
    """Everybody prefers one model, wherever it stood; ties are halved."""
    rows = [
        (rater, row["pair"], "quality", "a" if row["a"] == "model_one" else "b")
        for row in key_of(study)
        for rater in ("x", "y")
    ]
    rows[0] = (*rows[0][:3], "tie")
    rows.append(("x", rows[-1][1], "motion", "tie"))
    file = written(tmp_path / "votes.csv", rows)
    quality, motion = tally(study / "key.csv", [file])
    assert (quality.name, quality.votes, quality.wins, quality.ties) == ("model_one", 12, 11, 1)
    assert quality.share == pytest.approx(11.5 / 12)
    assert (quality.low, quality.high) == pytest.approx(wilson(11.5, 12))
    assert quality.raters == 2 and quality.agreement == pytest.approx(5 / 6)
    assert motion.share == 0.5 and math.isnan(motion.agreement)
    assert main(["evaluate", "votes", str(study), str(file)]) == 0
    assert "model_one over model_two" in capsys.readouterr().out
    kept = json.loads(next((study / "scores").glob("votes*.json")).read_text())
    assert kept["rows"][0]["value"] == pytest.approx(100 * 11.5 / 12)


def test_a_later_vote_replaces_an_earlier_one(study, tmp_path):
    pair = key_of(study)[0]["pair"]
    file = written(tmp_path / "v.csv", [("x", pair, "quality", "a"), ("x", pair, "quality", "tie")])
    (share,) = tally(study / "key.csv", [file])
    assert (share.votes, share.ties) == (1, 1)


@pytest.mark.parametrize(
    "row", [("x", "9999", "quality", "a"), ("x", "0001", "quality", "c"), ("x", "0001", "", "a")]
)
def test_what_is_no_vote_is_named(study, tmp_path, row):
    with pytest.raises(InputError, match="v.csv"):
        tally(study / "key.csv", [written(tmp_path / "v.csv", [row])])


def test_wilsons_interval():
    """Published examples: 0 of 10, 5 of 10, 81 of 263 (Newcombe 1998)."""
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    with pytest.raises(InputError):
        wilson(3, 0)


def test_agreement_beyond_chance():
    assert agreement_of([("a", "a"), ("b", "b")]) == (1, 1)
    agreement, alpha = agreement_of([("a", "b"), ("b", "a")])
    assert agreement == 0 and alpha < 0
    assert math.isnan(agreement_of([("a",)])[0])
    # Krippendorff's own example of two observers, ten units, two names: alpha 0.095
    first, second = "0100000000", "1110010010"
    found = agreement_of(list(zip(first, second)))
    assert found[1] == pytest.approx(0.095, abs=1e-3)
