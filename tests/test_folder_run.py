"""Ten videos and a table: training, scoring and fine-tuning with other AUs, as the README says."""

import csv
import dataclasses
import json

import pytest
from corpus_folders import faces, write_landmarks, write_video
from small_run import small_config

from data_pipelines.corpora import folder
from data_pipelines.face_source import FaceSource
from data_pipelines.loader import make_data
from data_pipelines.preparation import prepare
from jaxau import checkpoint, evaluate, train

pytest.importorskip("av", reason="videos are read and written with PyAV: pip install jaxau[video]")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    raw, data = tmp_path_factory.mktemp("mine"), tmp_path_factory.mktemp("data")
    rows, table = [["video", "frame", "subject", "AU12_c", "AU14_r", "AU01_c"]], []
    for i in range(10):
        name = f"person{i}.mp4"
        write_video(raw / name, [face.image for face in faces(i)])
        for t, face in enumerate(faces(i)):
            table.append((name, t, face.lm68))
            if t % 5:  # gaps
                rows.append([name, t, f"P{i}", (t + i) % 2, (t * i) % 5, "" if i % 3 else (t + 1) % 2])
    with (raw / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    source = FaceSource("file", write_landmarks(raw / "landmarks.csv", table))
    prepare(folder.corpus(raw, "jaa256", source), data, workers=1)
    return data


def config_of(*aus, **changes):
    config = small_config()
    data = dataclasses.replace(config.data, corpus="folder", protocol="folder", sampling="all", aus=aus)
    stages = {"frames": dataclasses.replace(config.stages["frames"], epochs=1)}
    return dataclasses.replace(config, data=data, stages=stages, **changes)


def test_training_scoring_and_fine_tuning(data_dir, tmp_path, capsys):
    def open_data(config):
        return make_data(config, data_dir, threads=0)

    first = config_of(12, 14)
    train.run(first, open_data, tmp_path / "first")
    evaluate.run(tmp_path / "first", open_data)
    scores = json.loads((tmp_path / "first/eval/folder/scores.json").read_text())
    assert scores["protocol"] == "folder" and scores["corpus"] == "folder"

    second = config_of(1, 12, finetune=str(tmp_path / "first"))
    train.run(second, open_data, tmp_path / "second")
    said = capsys.readouterr().err
    source = checkpoint.read_info(tmp_path / "first")["hash"]
    assert (
        f"frames: started from checkpoint {source[:12]}: heads of AU [12] taken; new heads of AU [1]" in said
    )
    report = json.loads((tmp_path / "second/frames/finetune.json").read_text())
    assert (report["kept_aus"], report["new_aus"], report["unused_aus"]) == ([12], [1], [14])
    assert report["checkpoint"] == source and report["fresh"] == []
