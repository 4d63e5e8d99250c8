"""YAML, for those who prefer it; needs the extra `yaml`. Stricter than YAML: keys are strings, once each."""

from __future__ import annotations

from typing import Any

from ghostllm.config.tree import Table
from ghostllm.errors import ConfigError


def parse_yaml(text: str, name: str) -> Any:
    """Tables, lists and scalars, each key with its line. name: of the file. Raises ConfigError."""
    try:
        import yaml
    except ImportError:
        raise ConfigError([f"{name}: YAML needs an extra: pip install 'ghostllm[yaml]'"]) from None

    class Loader(yaml.SafeLoader):
        """SafeLoader that keeps places and refuses what it would silently accept."""

    def mapping(loader: Loader, node: yaml.MappingNode) -> Table:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "keys must be strings", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, "this key stands twice", key.start_mark)
            seen.add(key.value)
        loader.flatten_mapping(node)
        table = Table(f"{name}:{node.start_mark.line + 1}")
        for key, value in node.value:
            table.put(str(key.value), loader.construct_object(value, deep=True), _place(name, key.start_mark))
        return table

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        # Loader derives from SafeLoader: plain data only.
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        # Never str(error): it quotes the line, which may hold a secret.
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            [f"{_place(name, mark)}: not valid YAML: {error.problem or error.context}"]
        ) from None
    except RecursionError:
        raise ConfigError([f"{name}: nested too deeply"]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError([f"{name}: not valid YAML ({type(error).__name__})"]) from None


def _place(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}" if mark is not None else name
