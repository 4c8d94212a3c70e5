"""What people say of a dataset: preferences, success, stages, how far they agree; and finding episodes by it."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labellers import answer, answer_forever
from painted import SIZE, SUCCESS, dataset_spec, painted_number, record, stamps, step

from robolearn import cli
from robolearn.datasets import edit
from robolearn.datasets.agreement import agreement, cohen_kappa, labels
from robolearn.datasets.histograms import histograms
from robolearn.datasets.pictures import jpegs
from robolearn.datasets.preferences import (
    PREFERENCES,
    SHARED,
    Moment,
    Preference,
    add_preference,
    next_pair,
    read_preferences,
    undo_preference,
)
from robolearn.datasets.select import Filter, choices, matching
from robolearn.datasets.series import series
from robolearn.datasets.store import Annotation, EpisodeMeta, ImageCodec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.specs import ArraySpec, depth_spec


def test_answers_are_kept_in_order_and_taken_back_one_by_one(path: Path) -> None:
    store = ZarrStore.open(path)
    assert read_preferences(store) == []
    first, bobs, last = answer(store, "ana"), answer(store, "bob", "equal"), answer(store, "ana", "unsure", (1, 2))
    assert read_preferences(store) == [first, bobs, last]
    assert undo_preference(store, "ana") == last
    assert undo_preference(store, "ana") == first
    assert read_preferences(store) == [bobs]
    with pytest.raises(DatasetError, match="no answer of 'ana'"):
        undo_preference(store, "ana")
    with pytest.raises(DatasetError, match="no step 3"):
        answer(store, "ana", steps=(3, 0))
    with pytest.raises(DatasetError, match="wanted one of first, second, equal, unsure"):
        answer(store, "ana", "both")


def test_a_line_that_was_cut_off_is_not_an_answer_and_harms_none(path: Path) -> None:
    store = ZarrStore.open(path)
    first = answer(store, "ana")
    whole = (path / PREFERENCES).read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        (path / PREFERENCES).write_bytes(whole + whole[:cut])
        assert read_preferences(store) == [first]
        assert [answer(store, "bob"), first] == read_preferences(store)[::-1]
    (path / PREFERENCES).write_bytes(b"{}\n" + whole)
    with pytest.raises(DatasetError, match="line 1 is no answer"):
        read_preferences(store)


def test_two_people_killed_while_answering_lose_nothing_that_was_acknowledged(path: Path) -> None:
    context = multiprocessing.get_context("forkserver")  # a fork of ours would inherit zarr's locks without its threads
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    people = [
        context.Process(target=answer_forever, args=(path, name, told))
        for name, (_, told) in zip(("ana", "bob"), pipes, strict=True)
    ]
    for person in people:
        person.start()
    heard = [b"".join(hear.recv_bytes() for _ in range(5)) for hear, _ in pipes]
    for person in people:
        person.kill()
        person.join()
    for hear, _ in pipes:
        while hear.poll():
            heard.append(hear.recv_bytes())
    kept = read_preferences(ZarrStore.open(path))
    assert len(b"".join(heard)) <= len(kept) <= len(b"".join(heard)) + len(people)


@pytest.mark.parametrize("segment", [1, 3])
def test_pairs_are_drawn_from_all_steps_and_some_are_shared(path: Path, segment: int) -> None:
    store = ZarrStore.open(path)
    answer(store, "eve")  # of moments, which says nothing of segments
    answers: list[Preference] = []
    for author in ("ana", "bob"):
        for _ in range(4 * SHARED):
            pair = next_pair(store, answers, author, segment)
            assert pair == next_pair(store, answers, author, segment)
            assert pair[0] != pair[1]
            answers.append(Preference(*pair, "first", author, segment=segment))
            add_preference(store, answers[-1])
    shared = {one.pair for one in answers if one.author == "ana"} & {one.pair for one in answers if one.author == "bob"}
    assert len(shared) >= 4
    lengths = {episode.id: episode.length for episode in store.episodes}
    everywhere = {(episode, step) for episode, length in lengths.items() for step in range(length - segment + 1)}
    assert {(moment.episode, moment.step) for one in answers for moment in one.pair} == everywhere
    assert read_preferences(store)[1:] == answers
    with pytest.raises(DatasetError, match="no episode of 6 steps or more; a comparison needs two segments of 5"):
        next_pair(store, answers, "ana", 5)


def test_answers_say_how_long_a_segment_is_and_older_ones_are_about_moments(path: Path) -> None:
    store = ZarrStore.open(path)
    moments = answer(store, "ana")
    segments = replace(moments, segment=3, answer="second")
    with pytest.raises(DatasetError, match="no step 4"):
        add_preference(store, replace(segments, second=Moment(moments.second.episode, 2)))
    with pytest.raises(DatasetError, match="segments of 0 steps"):
        add_preference(store, replace(moments, segment=0))
    add_preference(store, segments)
    rows = [json.loads(line) for line in (path / PREFERENCES).read_text().splitlines()]
    assert [row["segment"] for row in rows] == [1, 3]
    assert [one["segment"] for one in labels(store)["preferences"]] == [1, 3]
    add_preference(store, replace(moments, author="bob"))
    assert labels(store)["agreement"]["preferences"] == {
        "authors": ["ana", "bob"],
        "items": 1,
        "same": 1,
        "kappa": None,
    }
    del rows[0]["segment"]
    (path / PREFERENCES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_preferences(store) == [moments, segments]
    rows[1]["segment"] = 0
    (path / PREFERENCES).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DatasetError, match="line 2 is no answer"):
        read_preferences(store)


def test_answers_follow_their_episodes(path: Path, tmp_path: Path) -> None:
    store = ZarrStore.open(path)
    ids = [episode.id for episode in store.episodes]
    kept = answer(store, "ana")
    add_preference(store, Preference(Moment(ids[0], 0), Moment(ids[2], 4), "second", "ana"))
    edit.split(path, {tmp_path / "part": [0, 1]})
    assert read_preferences(ZarrStore.open(tmp_path / "part")) == [kept]
    edit.delete(path, [2])
    edit.collect_garbage(path)
    assert read_preferences(ZarrStore.open(path)) == [kept]


def test_answers_keep_their_steps_when_episodes_are_trimmed(path: Path, tmp_path: Path) -> None:
    store = ZarrStore.open(path)
    ids = [episode.id for episode in store.episodes]
    early = Preference(Moment(ids[2], 0), Moment(ids[0], 0), "first", "bob")
    late = Preference(Moment(ids[2], 3), Moment(ids[1], 2), "second", "ana", segment=2)
    for one in (early, late):
        add_preference(store, one)
    edit.trim(path, 2, 2)
    shifted = replace(late, first=Moment(ids[2], 1))
    assert read_preferences(ZarrStore.open(path)) == [shifted]
    edit.split(path, {tmp_path / "part": [1, 2]})
    edit.trim(tmp_path / "part", 1, 1)
    assert read_preferences(ZarrStore.open(tmp_path / "part")) == [replace(late, first=Moment(ids[2], 0))]
    edit.trim(path, 1, 0, 3)
    assert read_preferences(ZarrStore.open(path)) == []
    edit.undo(path)
    edit.undo(path)
    assert read_preferences(ZarrStore.open(path)) == [early, late]


def test_answers_that_come_while_garbage_is_collected_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit.delete(path, [0])
    store = ZarrStore.open(path)
    said: list[Preference] = []
    sized = edit._folder_bytes

    def meanwhile(folder: Path) -> int:
        """Called before the copy is made, and once more when it is whole and not yet in place."""
        said.append(answer(store, "ana", steps=(len(said), 3)))
        return sized(folder)

    monkeypatch.setattr(edit, "_folder_bytes", meanwhile)
    edit.collect_garbage(path)
    assert len(said) == 2
    assert said == read_preferences(ZarrStore.open(path))
    with pytest.raises(DatasetError, match="written anew"):
        answer(store, "ana")


words = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)


@given(words)
def test_kappa_is_symmetric_and_at_most_one(said: list[tuple[str, str]]) -> None:
    first, second = [a for a, _ in said], [b for _, b in said]
    kappa = cohen_kappa(first, second)
    assert kappa == pytest.approx(cohen_kappa(second, first)) if kappa is not None else first == second
    assert kappa is None or -1 <= kappa <= 1
    assert cohen_kappa(first, first) == (1 if len(set(first)) > 1 else None)


def test_kappa_of_a_worked_example() -> None:
    # Of 50 proposals both say yes to 20 and no to 15; p = .7, chance .5 * .6 + .5 * .4 = .5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    both = agreement({"ana": dict(enumerate(first)), "bob": dict(enumerate(second)), "eve": {99: "yes"}})
    assert (both.items, both.same, both.kappa) == (50, pytest.approx(0.7), pytest.approx(0.4))


def test_stages_and_success_by_several_people(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit.annotate(path, 2, [Annotation(0, 2, "reach", "ana"), Annotation(2, 5, "push", "ana")], "ana")
    edit.annotate(path, 2, [Annotation(0, 3, "reach", "bob"), Annotation(3, 5, "push", "bob")], "bob")
    for author, word in (("ana", True), ("bob", False)):
        edit.judge(path, 0, word, author)
    edit.judge(path, 1, False, "ana")
    store = ZarrStore.open(path)
    assert [episode.success for episode in store.episodes] == [None, False, True]
    edit.judge(path, 0, False, "eve")
    assert ZarrStore.open(path).episodes[0].success is False
    for author in ("eve", "bob"):
        edit.judge(path, 0, None, author)
    assert ZarrStore.open(path).episodes[0].success is True
    assert edit.last_edit(ZarrStore.open(path)) == f"judge {store.episodes[0].id}"
    answer(store, "ana")
    answer(store, "bob", "second")
    assert cli.run(["dataset", "labels", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["agreement"]["stages"] == {
        "authors": ["ana", "bob"],
        "items": 5,
        "same": pytest.approx(0.8),
        "kappa": pytest.approx((0.8 - 0.48) / 0.52),
    }
    assert told["agreement"]["preferences"]["same"] == 0
    assert told["episodes"][0]["success_by"] == {"ana": True}
    assert cli.run(["dataset", "labels", str(path)]) == 0
    assert "reach 0-2 (ana)" in capsys.readouterr().out.replace("\n", " ")
    edit.judge(path, 0, None, "ana")
    assert ZarrStore.open(path).episodes[0].success is True  # as it was recorded
    assert ZarrStore.open(path).episodes[0].tags == {}
    edit.annotate(path, 2, [], "ana")
    assert {note.author for note in ZarrStore.open(path).episodes[2].annotations} == {"bob"}
    with pytest.raises(DatasetError, match="look again"):
        edit.undo(path, expected="delete something")
    assert labels(ZarrStore.open(path))["agreement"]["stages"]["kappa"] is None


def test_episodes_are_found_by_what_the_table_says(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with store.writer() as writer:
        record(writer, 3, operator="ana", tags={"quality": "good"})
        record(writer, 9, operator="bob")
    edit.mark(tmp_path / "d", [1], False)
    edit.annotate(tmp_path / "d", 1, [Annotation(0, 2, "reach", "eve")])
    episodes = ZarrStore.open(tmp_path / "d").episodes

    def found(**wanted: object) -> list[int]:
        return matching(episodes, Filter(**wanted))  # type: ignore[arg-type]

    assert found() == found(task="push-v1") == found(text="PUSH it") == [0, 1]
    assert found(success="failure") == found(stage="reach") == found(operator="bob") == found(min_steps=4) == [1]
    assert found(tag="quality") == found(text="good push") == found(max_steps=3) == [0]
    assert found(task="lift-v1") == found(text="good reach") == found(success="unknown") == found(success="maybe") == []
    assert choices(episodes) == {
        "task": ["push-v1"],
        "operator": ["ana", "bob"],
        "stage": ["reach"],
        "tag": ["quality"],
    }


def test_histograms_count_every_visible_step_once(path: Path) -> None:
    edit.delete(path, [1])
    found = histograms(ZarrStore.open(path))
    assert sum(found["length"]["counts"]) == 2
    for one in [*found["action"], *found["position"]]:
        assert sum(one["counts"]) == 8
        assert len(one["edges"]) == len(one["counts"]) + 1
        assert (one["edges"][0], one["edges"][-1]) == (-1e5, 1e5)
    assert found["position_coverage"] == 0.1  # all of it in one tenth of the range
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("codec", ["jpeg", "jpegxl", "h264"])
def test_pictures_come_as_jpeg_and_lost_ones_as_none(tmp_path: Path, codec: str) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(ImageCodec(codec)))  # type: ignore[arg-type]
    with store.writer() as writer:
        record(writer, 3)
        writer.begin(EpisodeMeta(task="push-v1"))
        for number in range(20):
            lost = {"image_front"} if number == 5 else set()
            writer.append({k: v for k, v in step(number).items() if k not in lost}, stamps(number))  # type: ignore[arg-type]
        writer.commit(SUCCESS)
    found = jpegs(store, 1, "image_front", 2, 20)
    assert found[3] is None
    for number, data in enumerate(found, start=2):
        if data is not None:
            assert painted_number(imagecodecs.jpeg8_decode(data)) == number
    if codec == "jpeg":
        assert found[0] == imagecodecs.jpeg8_encode(np.asarray(step(2)["image_front"]), level=90)
    with pytest.raises(UnknownNameError):
        jpegs(store, 0, "action", 0, 1)
    with pytest.raises(DatasetError, match="not within it"):
        jpegs(store, 0, "image_front", 0, 4)


def test_depth_is_seen_the_brighter_the_nearer_and_alike_in_every_answer(tmp_path: Path) -> None:
    spec = replace(dataset_spec(), extra={"depth_front": depth_spec(SIZE, SIZE)})
    store = ZarrStore.create(tmp_path / "d", spec)
    depths = [0, 1, 250, 251, 500, 1000, 4000, 65_535]
    with store.writer() as writer:
        writer.begin(EpisodeMeta(task="push-v1"))
        for number, depth in enumerate(depths):
            writer.append(step(number) | {"depth_front": np.full((SIZE, SIZE), depth)}, stamps(number))
        writer.commit(SUCCESS)
    found = jpegs(store, 0, "depth_front", 0, len(depths))
    greys = [int(np.median(imagecodecs.jpeg8_decode(data))) for data in found if data is not None]
    assert len(greys) == len(depths)
    assert greys[:3] == [0, 255, 255]
    assert greys[1:] == sorted(greys[1:], reverse=True)
    assert len(set(greys)) == len(depths) - 1
    assert greys[-1] >= 25  # though it is far away, it was measured
    assert jpegs(store, 0, "depth_front", 5, 6) == found[5:6]


def test_series_hold_fields_and_columns_with_gaps(path: Path) -> None:
    store = ZarrStore.open(path)
    with store.column_writer("reward/m-1", ArraySpec(()), {}) as column:
        column.write(1, np.arange(4, dtype=np.float32) / 3)
    found = series(store, 1)
    assert found["step"] == [0, 1, 2, 3]
    assert found["time_s"] == [0, 0.033, 0.066, 0.099]
    assert found["fields"]["action"]["values"] == [[3, 4, 5, 6]] * 2
    assert found["columns"]["reward/m-1"]["values"] == [[0, 0.33333, 0.66667, 1]]
    assert series(store, 0)["columns"] == {}
    json.dumps(found, allow_nan=False)
