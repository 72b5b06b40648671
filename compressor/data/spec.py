"""A recipe's `data`: where rows and raw text come from, and which columns are read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from compressor.data.cells import as_text
from compressor.spec import Scalar, Spec


class HubDataset(Spec):
    """A data set on the Hugging Face hub."""

    hub: str
    """Data set id, such as `nyu-mll/glue`."""
    name: str | None = None
    """Configuration of the data set, such as `sst2`."""
    split: str
    """Split, such as `train`."""
    revision: str | None = None
    """Commit, tag or branch. Keys and the lock hold the digest of the files that it stands for."""


Source = str | HubDataset


class TextSpec(Spec):
    """Raw text, read as a stream: memory does not grow with it."""

    source: Source
    """txt, csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or a data set on the hub."""
    text: str = "text"
    """Column with the text; a txt file has none, each of its lines is a text."""
    where: dict[str, Scalar] = Field(default_factory=dict)
    """Keep only rows whose columns have these values."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep this share of the texts, drawn by a hash of the text."""


DEFAULT_MAX_SEQUENCE_LENGTH = 128


class CorpusSpec(TextSpec):
    """Raw text that pretraining stages learn from, read as a stream: memory does not grow with it."""

    separator: str = "\n"
    """Separates the paragraphs inside one text."""
    sentence_order: bool = False
    """Make each sequence of two segments of one text, half of them swapped, and have pretraining stages train a head
    that classifies the order, beside the masked-LM head. Texts need two sentences at least. For BERT and ALBERT."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the texts held out, by another hash."""
    max_validation_sequences: Annotated[int, Field(ge=1)] = 400
    """Score on at most this many sequences of the held-out text, drawn by seed."""


class RetrievalSpec(TextSpec):
    """Queries and documents, in which each query looks for the documents that answer it.

    `source` is a folder as BEIR has it (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv), SQuAD's JSON (each question
    looks for its paragraph), a table of pairs (each first text looks for its second among all), or raw text (the first
    sentence of each text looks for the rest of it).
    """

    text_pair: str | None = None
    """Column with the second text of a pair, which the first one in `text` looks for."""
    split: str = "test"
    """Of a folder, the name of the file in `qrels`."""
    max_queries: Annotated[int, Field(ge=1)] | None = None
    """Ask at most so many queries, drawn; all documents stay."""
    max_documents: Annotated[int, Field(ge=1)] | None = None
    """Search at most so many documents: all that answer a query, and others, drawn."""


class DataSpec(Spec):
    """Where the rows come from, and which columns are read."""

    train: Source | None = None
    """csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or `{hub: id, name:, split:}`. Of
    token-classification, jsonl, parquet, or CoNLL; of question-answering, jsonl, parquet, or SQuAD's json; of
    sentence-similarity, also SQuAD's json and a folder as BEIR has it, with qrels/train.tsv (here) and qrels/test.tsv.

    Needed by every task but masked-lm, which reads `corpus`."""
    validation: Source | None = None
    """Held-out rows, same forms as `train`; left out: a hash split of `train`."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of `train` held out by a hash of the text when `validation` is left out (then 0.1 by default)."""
    text: str = "text"
    """Column with the text (the first sentence of a pair)."""
    text_pair: str | None = None
    """Column with the second sentence of a pair."""
    label: str = "label"
    """Column with the label, a string or an integer; of text-regression, a number; of multi-label classification, a
    list of labels."""
    label_separator: Annotated[str, Field(min_length=1)] | None = None
    """Separates the labels of a row where they are one text, such as `|` in csv and tsv files. Then a row has any
    number of labels (multi-label classification), and none where the text is empty."""
    multi_label: bool | None = None
    """Whether a row has a list of labels; a single label is then a list of one. Left out: if there is a
    `label_separator`, or the column of a local jsonl or parquet file holds lists; for data sets on the hub, say it."""
    tune_thresholds: bool = False
    """Choose a probability for each label above which a text is given it, instead of 0.5, in every stage that trains:
    the one with the best F1 on a tenth of the training rows, which are then not trained on. See docs/recipes.md."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For labels or tags of the rows, those that they stand for, such as `{"0": NEGATIVE, "1": POSITIVE}`.

    A trained head's labels are found by name, numbers only if they are called `LABEL_0`, `LABEL_1`. Two labels that
    stand for one are merged. A label that no row has is in the report; a name that the head lacks is refused."""
    tokens: str = "tokens"
    """Column with a row's words, a list, in token-classification; of CoNLL files, the first."""
    tags: str = "tags"
    """Column with a tag for each word, a list; of CoNLL files, the last. `O`, or a prefix and a type: `B-` and
    `I-` of IOB, also `E-` and `S-` of IOBES, or `L-` and `U-` of BILOU."""
    question: str = "question"
    """Column with the question, in question-answering."""
    context: str = "context"
    """Column with the text that holds the answer."""
    answers: str = "answers"
    """Column with the answers, `{text: [...], answer_start: [...]}`; empty lists where there is none."""
    stride: Annotated[int, Field(ge=0)] = 128
    """Tokens that neighbouring windows of a long context share."""
    score: str | None = None
    """Of sentence-similarity: column with a number that says how alike the texts of a pair are, such as STS's 0 to 5.
    Without, `text` and `text_pair` belong together."""
    negative: str | None = None
    """Of sentence-similarity: column with a text that does not belong to `text`, which makes triplets of pairs."""
    retrieval: str | RetrievalSpec | None = None
    """Of sentence-similarity: a retrieval set that is measured beside the validation rows, or instead of them; a
    mapping, or just its `source`."""
    group: str | None = None
    """Column that names what rows belong to, such as a document, a user or a patient. Rows of one group stay on one
    side of a split, and gates take them for less evidence than as many rows of different groups.

    Left out: rows with equal texts are a group, questions with one context, and in CoNLL files the sentences of a
    document (`-DOCSTART-`)."""
    query: str | None = None
    """Column that is equal for the rows that are candidates for one query: its id, or its text. Of text-regression,
    whose numbers then say how relevant a row is, 0 for not at all. Rankings (`ndcg_at_10`, `mrr_at_10`) and
    `alpha_margin` need it. Rows of one query stay on one side of a split, and count as one group without `group`."""
    where: dict[str, Scalar] = Field(default_factory=dict)
    """Keep only rows whose columns have these values."""
    max_train_samples: Annotated[int, Field(ge=1)] | None = None
    """Train on at most this many rows, drawn by seed; with `query`, whole queries."""
    max_validation_samples: Annotated[int, Field(ge=1)] | None = None
    """Score on at most this many rows, drawn by seed; with `query`, whole queries."""
    corpus: str | CorpusSpec | None = None
    """Raw text for `objective: pretraining` and the task masked-lm, and for sentence-similarity to be distilled on: a
    mapping, or just its `source`."""

    @field_validator("labels", mode="before")
    @classmethod
    def _as_texts(cls, given: Any) -> Any:
        """Numbers that YAML makes of labels are the labels' text."""
        if not isinstance(given, dict) or not all(isinstance(part, Scalar) for pair in given.items() for part in pair):
            return given
        return {as_text(label): as_text(other) for label, other in given.items()}

    @model_validator(mode="after")
    def _one_split(self) -> DataSpec:
        if self.validation is not None and self.validation_fraction is not None:
            raise ValueError("validation and validation_fraction are both given; keep one")
        return self

    @model_validator(mode="after")
    def _one_form_of_labels(self) -> DataSpec:
        if self.label_separator is not None and self.multi_label is False:
            raise ValueError("label_separator is given and multi_label is false; drop one of them")
        return self

    @property
    def retrieval_spec(self) -> RetrievalSpec | None:
        """The retrieval set, with its defaults where the recipe gives only its source."""
        return RetrievalSpec(source=self.retrieval) if isinstance(self.retrieval, str) else self.retrieval

    @property
    def corpus_spec(self) -> CorpusSpec | None:
        """The corpus, with its defaults where the recipe gives only its source."""
        return CorpusSpec(source=self.corpus) if isinstance(self.corpus, str) else self.corpus
