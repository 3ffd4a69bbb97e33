"""What of a class counts for the identity of a training, beside its attributes, and what of these does not."""

from __future__ import annotations

import enum
import functools
import sys
from typing import Any

from swarm.code.own_modules import is_own

_NO_ATTRIBUTE = frozenset({
    "__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__annotate_func__",
    "__annotations_cache__", "__slots__", "__firstlineno__", "__static_attributes__", "__abstractmethods__",
    "__dataclass_params__", "__dataclass_fields__", "__match_args__", "__orig_bases__", "__parameters__", "__hash__",
    "_abc_impl", "__type_params__", "__slotnames__", "__signature__",
})  # fmt: skip
_MADE_FOR_CLASSES = ("member_descriptor", "getset_descriptor", "_abc_data", "_tuplegetter")


def is_own_class(cls: type) -> bool:
    """Whether a class was written in an own module, or in code that belongs to none."""
    module = vars(cls).get("__module__")  # what is written in C has none of its own
    if not isinstance(module, str):
        return False
    return is_own(module) or module == "builtins" or (module not in sys.modules and "__weakref__" in vars(cls))


def is_cache(attribute: Any) -> bool:
    """Whether an attribute of a class has its instances keep what was computed once."""
    return isinstance(attribute, functools.cached_property)


def is_made_for_class(cls: type, name: str, attribute: Any) -> bool:
    """Whether a class attribute was made by Python or a decorator, from what counts anyway."""
    if name in _NO_ATTRIBUTE or name.startswith("__pydantic_") or type(attribute).__name__ in _MADE_FOR_CLASSES:
        return True
    code = getattr(getattr(attribute, "__func__", attribute), "__code__", None)
    if issubclass(cls, enum.Enum):
        return code is None and (name in cls.__members__ or name.startswith("_"))
    makers = ("__dataclass_fields__", "__attrs_attrs__", "_fields")
    generated = any(attribute_of(cls, each) is not None for each in makers)
    return generated and code is not None and code.co_filename.startswith(("<string>", "<attrs"))


def attribute_of(cls: type, name: str) -> Any:
    """An attribute of a class or its bases, as it was written there, or None; no ``__getattr__`` is asked."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def fields(cls: type) -> list[Any]:
    """What a decorator or a base class from a library knows of a class that its attributes do not show."""
    found: list[Any] = [repr(attribute_of(cls, "__dataclass_params__"))]
    for name, field in (attribute_of(cls, "__dataclass_fields__") or {}).items():
        found += [name, field.init, field.compare, field.hash, field.repr, field.kw_only is True]
        found += [field.default, field.default_factory, dict(field.metadata)]
    for name, field in (attribute_of(cls, "__pydantic_fields__") or {}).items():
        found += [name, field]
    decorators = attribute_of(cls, "__pydantic_decorators__")
    for kind in getattr(decorators, "__dataclass_fields__", ()):
        found += [(kind, name, each.info) for name, each in getattr(decorators, kind).items()]
    return found
