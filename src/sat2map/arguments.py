"""What a caller gives, held against the type hints of what is called.

Public functions carry `checks_arguments`, so that a wrong argument is one line which names the
parameter, before it fails somewhere within. Names of files may be given as texts everywhere.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from sat2map.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that refuses arguments which do not fit its type hints.

    A text is made a path where a path is meant. Arrays are left to the function, which knows their
    shapes.

    Raises:
        UsageError: An argument does not fit; it names the parameter.
    """
    signature = inspect.signature(function)
    positional = [
        name for name, one in signature.parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD
    ]

    @functools.cache
    def hints() -> dict[str, Any]:  # not before the first call: names are imported meanwhile
        return {
            name: _resolved(parameter.annotation, function)
            for name, parameter in signature.parameters.items()
            if parameter.annotation is not parameter.empty and name not in ("self", "cls")
        }

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if _all_fit(hints(), positional, args, kwargs):
            return function(*args, **kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:  # which does not say of what function
            raise TypeError(f"{function.__qualname__}() {error}") from None
        for name, hint in hints().items():
            if name in bound.arguments:
                bound.arguments[name] = fitting(bound.arguments[name], hint, name)
        return function(*bound.args, **bound.kwargs)

    return checked


def _all_fit(
    hints: dict[str, Any], positional: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Return whether all that is given fits as it is, which it mostly does.

    This is found without binding arguments to parameters, which takes a while. Whatever else is
    wrong with a call, such as a parameter that is given twice, Python says.
    """
    return len(args) <= len(positional) and all(
        name not in hints or _fits(value, hints[name])
        for name, value in (*zip(positional, args, strict=False), *kwargs.items())
    )


def check_fields(options: object, *names: str) -> None:
    """Refuse what does not fit the type hints of a dataclass, in its `__post_init__`.

    Args:
        options: An instance.
        names: Its fields that are held against their types.

    Raises:
        UsageError: One does not fit.
    """
    kind = type(options)
    for name in names:
        hint = _resolved(kind.__annotations__[name], kind)
        object.__setattr__(options, name, fitting(getattr(options, name), hint, name))


def fitting(value: Any, hint: Any, parameter: str) -> Any:
    """Return a value where it fits a type, a text that names a file as a path.

    Args:
        value: What was given.
        hint: The type; what is not known of it is taken to fit.
        parameter: Its name.

    Raises:
        UsageError: It does not fit.
    """
    if _fits(value, hint):
        return value
    if isinstance(value, str) and Path in _choices(hint):
        return Path(value)
    for choice in _choices(hint):
        lists = inspect.isclass(get_origin(choice)) and issubclass(get_origin(choice), Sequence)
        if lists and isinstance(value, (list, tuple)) and get_args(choice)[:1] in ((str,), (Path,)):
            kind = get_args(choice)[0]
            if all(isinstance(one, (str, Path)) for one in value):
                return [kind(one) for one in value]
    named = [word for choice in _choices(hint) for word in _words(choice)]
    text = ", ".join(named[:-1]) + " or " * (len(named) > 1) + named[-1] if named else "another"
    kind = "None" if value is None else f"of the type {type(value).__name__}, which is not taken"
    if isinstance(value, (str, bool, int, float)) and len(repr(value)) < LONGEST:
        kind = f"{value!r}, which is not taken"
    raise UsageError(f"is {kind}", parameter=parameter, remedy=f"Give {text}.")


LONGEST = 60
"""Characters of a value that a message shows."""


def _resolved(annotation: Any, where: Any) -> Any:
    """Return the type that an annotation names, or Any where that is not imported."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, dict(vars(sys.modules[where.__module__])))
    except (NameError, AttributeError, TypeError):
        return Any


def _choices(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = _parts(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if hint in (None, NoneType):
        return value is None
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        if inner[-1] is Ellipsis:
            return all(_fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if getattr(origin, "__name__", "") == "ndarray":  # numpy is not imported for this
        return True
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(one, inner[1]) for key, one in value.items()
        )
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Iterable):
        taken = Sequence if issubclass(origin, Sequence) else Iterable
        whole = isinstance(value, taken) and not isinstance(value, (str, bytes))
        # Which of the words that are meant there are, the function says better.
        kind = str if get_origin(inner[0]) is Literal else inner[0]
        return whole and (taken is Iterable or all(_fits(one, kind) for one in value))
    if origin is not None:
        return callable(value) if origin is _CALLABLE else True
    return _is_of(value, hint)


_CALLABLE = get_origin(Callable[[], None])


def _is_of(value: Any, kind: Any) -> bool:
    if not isinstance(kind, type) or kind is object:
        return True
    if kind is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")  # numpy's
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol
        return True


def _words(hint: Any) -> list[str]:
    """Return what to say of a type."""
    if hint in (None, NoneType):
        return []
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    origin = get_origin(hint) or hint
    if origin is _CALLABLE:
        return ["a function"]
    if origin is tuple:
        return ["a tuple"]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return ["a dict"]
    if isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
        return ["a list"]
    known = {str: "a text", Path: "a path", int: "a whole number", float: "a number"}
    known[bool] = "True or False"
    name = getattr(origin, "__name__", "another")
    return [known.get(origin, f"an object of {name}")]
