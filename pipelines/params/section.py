"""What the sections of `params.yaml` have in common: strict keys, finite numbers, and errors in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

Share = Annotated[float, Field(ge=0, lt=1)]


class ParamsError(SystemExit, ValueError):
    """`params.yaml` is wrong. Uncaught, it ends the process with its message alone, no traceback, and exit code 1."""


class Section(BaseModel):
    """A section of the file: an unknown key is an error, because it is most likely a misspelt one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_is_a_number(cls, values: Any) -> Any:
        # Pydantic would take `true` for 1.
        for name, field in cls.model_fields.items():
            if isinstance(values, dict) and isinstance(values.get(name), bool) and field.annotation is not bool:
                raise ValueError(f"{name} is {str(values[name]).lower()}, which is no value for it")
        return values

    @classmethod
    def parse(cls, values: Any, path: Path, section: str = "") -> Self:
        """A section from the values of the file.

        Args:
            values: What the file says.
            path: The file, for messages.
            section: Dotted name of the section; empty for the whole file.

        Raises:
            ParamsError: a value is wrong or missing, or a key is unknown; one line for each.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [f"{path}: {_sentence(one, section)}" for one in error.errors(include_url=False)]
            raise ParamsError("\n".join(lines)) from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ParamsError: there is no such file, or it is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist here; the commands run in the project's root.") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is no YAML: {' '.join(str(error).split())}.") from None


def _sentence(error: ErrorDetails, section: str) -> str:
    """One error of pydantic in plain words."""
    name = ".".join(str(part) for part in (section, *error["loc"]) if part != "")
    message = error["msg"]
    if error["type"] == "missing":
        return f"{name} is missing."
    if error["type"] == "extra_forbidden":
        return f"there is no setting {name}; it may be misspelt."
    if error["type"] == "value_error":
        return f"{f'{name}: ' if name else ''}{message.removeprefix('Value error, ')}."
    value = error["input"]
    shown = f"is {value!r}" if isinstance(value, (str, int, float, type(None))) else "is wrong"
    return f"{name} {shown}; {message.replace('Input should', 'it should')}."
