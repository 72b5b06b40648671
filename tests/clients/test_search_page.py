"""examples/search in a real browser: it finds what Python finds, asks no other host, and says what is missing."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml
from browsers import installed
from conftest import save_encoder, sentences, without_saturation
from numpy.typing import NDArray
from running import compress
from tokenizers import Tokenizer

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "examples" / "search"
DESK, PHONE = (1280, 900), (360, 740)
PROMPTS = {"query": "story of ", "document": "camera: "}
QUERIES = 20
DISTANCE = 2e-3
"""Cosines that are nearer may change places: each client rounds activations in its own kernels."""


@pytest.fixture(scope="module")
def browser() -> str:
    return installed()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run ships, in int8, with prompts."""
    folder = tmp_path_factory.mktemp("search")
    encoder = save_encoder(
        folder / "encoder", num_hidden_layers=2, initializer_range=0.3
    )  # vectors far from each other
    (folder / "texts.txt").write_text("\n".join(text for text, _ in sentences(120, 1)))
    halves = zip(sentences(40, 2), sentences(40, 3), strict=True)
    (folder / "reviews.txt").write_text("\n".join(f"{first}. {second}." for (first, _), (second, _) in halves))
    stages = [{"stage": "quantize"}, {"stage": "export", "targets": ["onnx"], "size_only": True}]
    recipe = {
        **{"schema_version": 1, "name": "tiny", "task": "sentence-similarity", "model": str(encoder)},
        **{"data": {"corpus": "texts.txt", "retrieval": "reviews.txt"}, "embedding": {"prompts": PROMPTS}},
        **{"measure": {"runs": 60, "sequence_length": 16}, "stages": without_saturation(stages)},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = compress("run", "recipe.yaml", "--allow-inconclusive", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "artifacts" / "tiny" / "model"


def texts_to_search() -> list[str]:
    """Short ones, one longer than the model takes, and one that would be a picture if it were taken for HTML."""
    short = [text for text, _ in sentences(60, 5)]
    return [*short, " ".join(text for text, _ in sentences(40, 6)), "<img src=http://127.0.0.1:9/x.png> a dull film"]


def make_site(folder: Path, model: Path) -> Path:
    """A folder as examples/search/README.md says to make it."""
    folder.mkdir()
    for name in ("index.html", "search.mjs", "search.css"):
        shutil.copy(PAGE / name, folder)
    shutil.copytree(model, folder / "model")
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    (folder / "texts.txt").write_bytes("\r\n".join(["", *texts_to_search(), " "]).encode())
    return folder


@pytest.fixture
def site(tmp_path: Path, model: Path) -> Path:
    return make_site(tmp_path / "site", model)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.terminate()


def used(browser: str, folder: Path, looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What pages of a folder showed; none has asked another host for anything.

    Args:
        browser: Its path.
        folder: Is served.
        looks: How each page is used; `page` is its path in the folder.
    """
    with served(folder) as host:
        placed = [{**entry, "page": host + entry["page"]} for entry in looks]
        job = {"browser": browser, "profile": str(folder.parent / "profile"), "looks": placed}
        command = ["node", str(HERE / "search_page.mjs")]
        result = subprocess.run(
            command, input=json.dumps(job), capture_output=True, text=True, timeout=600, check=False, cwd=HERE
        )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert [url for url in found["requests"] if not url.startswith((host, "data:"))] == []
    assert any(url.endswith("/search.mjs") for url in found["requests"])
    seen: list[dict[str, Any]] = found["looks"]
    return seen


def look(queries: list[str], size: tuple[int, int] = DESK, scheme: str = "light", page: str = "") -> dict[str, Any]:
    return {"page": page, "queries": queries, "width": size[0], "height": size[1], "scheme": scheme}


def vectors_in_python(model: Path, prompts: dict[str, str]) -> Callable[[list[str], str], NDArray[np.float32]]:
    """ONNX Runtime on the file that the page takes, one text at a time."""
    session = onnxruntime.InferenceSession(model / "onnx" / "model_quantized.onnx")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(json.loads((model / "tokenizer_config.json").read_text())["model_max_length"])

    def vectors(texts: list[str], kind: str) -> NDArray[np.float32]:
        found = []
        for text in texts:
            ids = np.array([tokenizer.encode(prompts.get(kind, "") + text).ids])
            values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            (vector,) = session.run(
                ["sentence_embedding"], {each.name: values[each.name] for each in session.get_inputs()}
            )
            found.append(vector[0] / np.linalg.norm(vector[0]))
        return np.array(found)

    return vectors


def test_it_finds_what_python_finds(browser: str, site: Path, model: Path):
    vectors, texts = vectors_in_python(model, PROMPTS), texts_to_search()
    asked = list(dict.fromkeys(text for text, _ in sentences(600, 9)))
    documents = vectors(texts, "document")
    cosines = vectors(asked, "query") @ documents.T
    first = -np.sort(-cosines, axis=1)[:, :6]
    clear = np.flatnonzero((first[:, :-1] - first[:, 1:]).min(axis=1) > DISTANCE)[:QUERIES].tolist()
    assert len(clear) == QUERIES
    (seen,) = used(browser, site, [look([asked[index] for index in clear])])
    assert (seen["state"], seen["error"], seen["complaints"], seen["bar"]) == ("ready", "", [], False)
    assert seen["told"].startswith(f"{len(texts)} texts indexed in ")
    for index, answer in zip(clear, seen["answers"], strict=True):
        best = np.argsort(-cosines[index], kind="stable")[:5].tolist()
        assert answer["places"][:5] == best, asked[index]
        assert answer["texts"][:5] == [texts[place] for place in best]
        assert answer["cosines"][:5] == pytest.approx(cosines[index][best], abs=DISTANCE)
        assert len(answer["places"]) == 10 and answer["cosines"] == sorted(answer["cosines"], reverse=True)
    without = vectors_in_python(model, {})
    others = without([asked[index] for index in clear], "query") @ without(texts, "document").T
    shown = [answer["places"][:5] for answer in seen["answers"]]
    assert shown != np.argsort(-others, axis=1)[:, :5].tolist(), "with the prompts of the model"


def test_phones_keyboards_and_screen_readers(browser: str, site: Path):
    long = texts_to_search()[-2]
    page = (site / "index.html").read_text()
    (site / "index.html").write_text(page.replace('"results": 10', '"results": 100'))
    looks = [look([long], PHONE), look(["a dull film", long]), look([long], PHONE, "dark")]
    phone, desk, dark = used(browser, site, looks)
    assert phone["widest"] <= PHONE[0] and desk["widest"] <= DESK[0]
    assert (phone["ground"], dark["ground"]) == ("rgb(255, 255, 255)", "rgb(20, 23, 28)")
    assert phone["focused"] == "query", "words can be typed at once"
    folded, whole = phone["heights"]
    assert phone["answers"][0]["texts"][0] == long and whole > 2 * folded, "a long text is unfolded by Enter"
    assert sorted(desk["answers"][0]["texts"]) == sorted(texts_to_search()), "markup is text"
    for told in ('searchbox "What are you looking for?"', 'button "Search"', 'list "Results"', "status:"):
        assert told in desk["tree"], desk["tree"]


def no_model(site: Path) -> None:
    shutil.rmtree(site / "model")


def no_graph(site: Path) -> None:
    (site / "model" / "onnx" / "model_quantized.onnx").unlink()


def damaged(site: Path) -> None:
    (site / "model" / "onnx" / "model_quantized.onnx").write_bytes(b"no graph")


def classifier(site: Path) -> None:
    manifest = json.loads((site / "model" / "manifest.json").read_text())
    (site / "model" / "manifest.json").write_text(json.dumps({**manifest, "task": "text-classification"}))


def no_texts(site: Path) -> None:
    (site / "texts.txt").unlink()


def empty(site: Path) -> None:
    (site / "texts.txt").write_text("\n \n")


def no_column(site: Path) -> None:
    page = (site / "index.html").read_text()
    (site / "index.html").write_text(page.replace("texts.txt", "texts.jsonl"))
    (site / "texts.jsonl").write_text('{"text": "a film"}\n{"body": "a plot"}\n')


def no_libraries(site: Path) -> None:
    (site / "node_modules").unlink()


def elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text()
    (site / "index.html").write_text(page.replace('"model/"', '"http://127.0.0.2:9/model"'))


MESSAGES = {
    no_model: "model/manifest.json is not there. Copy the folder",
    no_graph: "model/onnx/model_quantized.onnx is not there.",
    damaged: "model/onnx/model_quantized.onnx cannot be loaded:",
    classifier: "The model in model/ is for text-classification.",
    no_texts: "texts.txt is not there. Put the texts",
    empty: "texts.txt is empty.",
    no_column: 'texts.jsonl, line 2 has no text "text"',
    no_libraries: 'cannot be loaded. Run "npm ci',
    elsewhere: "http://127.0.0.2:9/model/manifest.json cannot be fetched.",
}


def test_what_is_missing_is_said_in_words(browser: str, tmp_path: Path, model: Path):
    sites = tmp_path / "sites"
    sites.mkdir()
    for spoil in MESSAGES:
        spoil(make_site(sites / spoil.__name__, model))
    seen = used(browser, sites, [look([], PHONE, page=f"{spoil.__name__}/") for spoil in MESSAGES])
    for message, entry in zip(MESSAGES.values(), seen, strict=True):
        assert entry["state"] == "failed" and message in entry["error"], entry
        assert "- alert: " in entry["tree"] and entry["widest"] <= PHONE[0]
        expected = ("Failed to load resource", "Content Security Policy")
        others = [text for text in entry["complaints"] if not any(part in text for part in expected)]
        assert others == [], "no exception is left to the console"


def test_texts_may_be_jsonl(browser: str, site: Path):
    page = (site / "index.html").read_text()
    (site / "index.html").write_text(page.replace("texts.txt", "texts.jsonl"))
    texts = [text for text, _ in sentences(30, 12)]
    rows = [json.dumps({"text": text} if index % 2 else text) for index, text in enumerate(texts)]
    (site / "texts.jsonl").write_text("\n".join(rows))
    (seen,) = used(browser, site, [look([texts[7]])])
    assert seen["told"].startswith("30 texts indexed") and set(seen["answers"][0]["texts"]) <= set(texts)


def test_it_takes_the_libraries_that_are_tested():
    tested = json.loads((HERE / "package.json").read_text())["dependencies"]
    taken = json.loads((PAGE / "package.json").read_text())["dependencies"]
    assert taken.items() <= tested.items()
    lock = json.loads((PAGE / "package-lock.json").read_text())
    assert lock["packages"][""]["dependencies"] == taken
