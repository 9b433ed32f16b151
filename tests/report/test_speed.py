"""The page of benchmarks says what was measured, and keeps what was not measured again."""

import json

import pytest

from jaxau.report import speed

ABOUT = {
    "command": "python -m launch.bench",
    "date": "2026-01-01 00:00 UTC",
    "cores": 2,
    "load_average": [0.5, 0.25, 0.125],
    "versions": {"python": "3.11", "jax": "0.10.2", "torch": None},
}


def _spread(median):
    return {"median": median, "q1": median * 0.9, "q3": median * 1.1, "n": 7}


def _steps(**changes):
    row = {
        "mode": "training",
        "stage": "clips",
        "dtype": "float32",
        "batch_size": 2,
        "frames": 32,
        "parameters": 27_210_000,
        "trainable_parameters": 27_210_000,
        "macs": 32 * 12_340_000_000,
        "compile_seconds": 12.34,
        "first_step_seconds": 56.78,
        "planned_memory_bytes": 3 * 2**30,
        "step_seconds": _spread(1.5),
        "samples_per_second": 2 / 1.5,
        "frames_per_second": 32 / 1.5,
        "device_peak_bytes": None,
        "host_peak_bytes": 5 * 2**30,
        "share_of_roof": 0.25,
        **changes,
    }
    roof = {"product": "2048^3 float32", "flops_per_second": 2.65e11}
    return {**ABOUT, "kind": "steps", "network": "lac", "dtype": "float32", "roof": roof, "rows": [row]}


def _against():
    row = {
        **{key: _steps()["rows"][0][key] for key in ("mode", "stage", "dtype", "batch_size", "frames")},
        "torch_form": "float32, channels_last, 2 threads",
        "logit_difference": 9e-6,
        "loss_difference": 2e-5,
        "jaxau_seconds": _spread(1.5),
        "torch_seconds": _spread(1.2),
        "speed_ratio": _spread(0.8),
    }
    return {**_steps(), "against": [row]}


def _loader():
    row = {
        "stage": "frames",
        "loader": "raw",
        "frames_per_second": _spread(3210.0),
        "decoded_per_second_and_thread": _spread(4000.0),
        "share_of_decoding": _spread(0.40125),
        "processor_share": _spread(0.5),
        "fed_seconds": _spread(0.2),
        "resident_seconds": _spread(0.19),
        "stall_share": _spread(0.05),
    }
    about = {"network": "lac", "corpus": "synthetic", "dtype": "float32", "threads": 2}
    return {**ABOUT, **about, "kind": "loader", "rows": [row]}


def _prediction():
    row = {
        "stage": "frames",
        "faces_from": "landmarks",
        "frames": 20,
        "faces": 17,
        "first_seconds": 8.0,
        "frames_per_second": _spread(18.5),
    }
    about = {"network": "lac", "dtype": "float32", "video": "talk.mp4", "width": 640, "height": 360}
    return {**ABOUT, **about, "kind": "prediction", "rows": [row]}


def _page(**sections):
    return speed.markdown({"device": "CPU", "sections": sections})


def _cells(page, start):
    line = next(line for line in page.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_of_steps():
    cells = dict(zip(speed.STEP_COLUMNS, _cells(_page(lac=_steps()), "training"), strict=True))
    assert cells == {
        "what": "training (clips)",
        "batch": "2 clips x 16",
        "parameters": "27.21 M",
        "GMAC / frame": "12.34",
        "compile": "12.3 s",
        "first step": "56.8 s",
        "step": "1,500 [1,350, 1,650]",
        "n": "7",
        "samples/s": "1.33",
        "frames/s": "21.3",
        "roof": "25%",
        "memory": "3.00 GiB",
        "peak": "5.00 GiB",
    }


def test_the_devices_own_peak_is_shown_where_it_tells():
    assert _cells(_page(lac=_steps(device_peak_bytes=7 * 2**30)), "training")[-1] == "7.00 GiB"
    assert _cells(_page(lac=_steps(planned_memory_bytes=None)), "training")[-2] == "–"


def test_parameters_that_are_not_trained():
    assert _cells(_page(lac=_steps(trainable_parameters=1_000_000)), "training")[2] == "27.21 M / 1.00 M"


def test_the_comparison_says_who_is_faster():
    page = _page(lac=_against())
    assert _cells(page, "training (clips), 2 clips")[1:4] == [
        "1,500 [1,350, 1,650]",
        "1,200 [1,080, 1,320]",
        "0.8 [0.72, 0.88]",
    ]
    assert "above 1, jaxau is faster" in page and "channels_last, 2 threads" in page


def test_loader_and_prediction():
    page = _page(loader=_loader(), predict=_prediction())
    assert "on synthetic faces" in page
    alone = _loader()
    for key in ("fed_seconds", "resident_seconds", "stall_share"):
        del alone["rows"][0][key]
    assert _cells(_page(loader=alone), "frames | raw")[-3:] == [speed.UNDEFINED] * 3
    assert _cells(page, "frames | raw")[1:5] == [
        "raw",
        "3,210 [2,889, 3,531]",
        "4,000 [3,600, 4,400]",
        "40.1% [36.1, 44.1]",
    ]
    assert _cells(page, "frames | raw")[-1] == "5% [4.5, 5.5]"
    assert _cells(page, "frames | land")[1:3] == ["landmarks, 17 in 20", "18.5 [16.7, 20.4]"]
    assert "talk.mp4: 640 x 360 pixels" in page


@pytest.mark.parametrize(
    ("section", "columns"),
    [
        (_steps(), [speed.STEP_COLUMNS]),
        (_against(), [speed.STEP_COLUMNS, speed.AGAINST_COLUMNS]),
        (_loader(), [speed.LOADER_COLUMNS]),
        (_prediction(), [speed.PREDICTION_COLUMNS]),
    ],
)
def test_each_section_has_its_command_and_a_line_for_each_column(section, columns):
    page = _page(one=section)
    assert "    python -m launch.bench\n" in page and "load average at the start 0.50 0.25 0.12" in page
    assert "torch None" not in page
    headers = [line for line in page.splitlines() if line.startswith("| ") and "---" in line]
    assert len(headers) == len(columns)
    for names in columns:
        for name, meaning in names.items():
            assert f"- **{name}**: {meaning}." in page.splitlines()


def test_what_is_measured_again_replaces_only_itself(tmp_path):
    page, data = speed.write(tmp_path, "AMD EPYC(TM) 9, 2 cores", {"lac": _steps(), "loader": _loader()})
    assert (page.name, data.name) == ("amd-epyc-9-2-cores.md", "amd-epyc-9-2-cores.json")
    speed.write(tmp_path, "AMD EPYC(TM) 9, 2 cores", {"lac": _steps(compile_seconds=99.0)})
    record = json.loads(data.read_text())
    assert record["sections"]["lac"]["rows"][0]["compile_seconds"] == 99.0
    assert record["sections"]["loader"] == _loader()
    assert page.read_text() == speed.markdown(record)
    assert "99.0 s" in page.read_text() and "## Input pipeline" in page.read_text()


def test_the_fit_and_its_accuracy():
    method = {"faces_per_second": _spread(10.0), "speed_ratio": _spread(80.0), "as_low": 49}
    row = {"faces": 50, "noise": 1.0, "faces_per_second": _spread(800.0), "trf": method, "lm": method}
    accuracy = {
        "faces": 200,
        "rendered": True,
        "landmarks": 98,
        "noise": 1.0,
        "pose_degrees": _spread(0.5),
        "most_degrees": 1.25,
        "within_a_degree": 0.985,
        "correlation": _spread(0.25),
        "correlation_of": {"AU02": 0.6, "AU04": 0.5, "AU09": 0.4},
    }
    page = _page(fit={**ABOUT, "kind": "fit", "rows": [row], "accuracy": [accuracy]})
    assert _cells(page, "1 |")[2:] == ["trf", "10 [9, 11]", "80 [72, 88]", "49 of 50"]
    assert _cells(page, "200 rendered")[4:] == ["1.25", "98.5%", "0.25 [0.225, 0.275]", "0.600, 0.500, 0.400"]
