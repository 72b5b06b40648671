"""Makes `AutoModel…` know our model classes as soon as this package is imported, and costs nothing until it is asked.

transformers finds classes by `model_type` in a registry that wants the classes themselves, and so torch, which
importing this package must not import. So the registry of configs is given a place for ours that is filled when
somebody looks it up: at once if transformers is there already, else when it is imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MODEL_TYPE = "compact_bert"

_REGISTRY = "transformers.models.auto.configuration_auto"


def install() -> None:
    """Prepares transformers' registry now if it is there, else when it is imported."""
    registry = sys.modules.get(_REGISTRY)
    if registry is not None:
        _prepare(registry)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _prepare(registry: ModuleType) -> None:
    added = registry.CONFIG_MAPPING._extra_content  # what `AutoConfig.register` fills
    if not isinstance(added, _Added):
        registry.CONFIG_MAPPING._extra_content = _Added(added)


class _Added(dict[str, Any]):
    """Configs by model type, with ours loaded at the first look."""

    def __contains__(self, key: object) -> bool:
        return key == MODEL_TYPE or super().__contains__(key)

    def __missing__(self, key: str) -> Any:
        if key != MODEL_TYPE:
            raise KeyError(key)
        _register()
        return self[key]


def _register() -> None:
    import transformers

    from compressor.models import compact_bert as ours

    transformers.AutoConfig.register(MODEL_TYPE, ours.CompactBertConfig, exist_ok=True)
    tasks = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
    for kind in ("", *tasks, "ForMaskedLM", "ForPreTraining"):
        model = getattr(ours, f"CompactBert{kind or 'Model'}")
        getattr(transformers, f"AutoModel{kind}").register(ours.CompactBertConfig, model, exist_ok=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the registry as everybody else would, and prepares it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_prepare(module: ModuleType) -> None:
                execute(module)
                _prepare(module)

            # On this one instance: the loader stays what it is for whoever asks it for the source.
            spec.loader.exec_module = execute_and_prepare  # type: ignore[method-assign]
        return spec
