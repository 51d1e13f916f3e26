"""highdicom sees its own table, and few of its modules are parsed."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from types import SimpleNamespace

import pytest

from autosam_edge.dicom.highdicom_tables import ModuleTable, parse_on_demand

TEXT = json.dumps({"a": [{"keyword": 'with "quotes"', "path": ["b"]}], "b": [], "c": {"d": 1}}, indent=2)


def test_each_value_is_what_json_says():
    """In the same order, with the same keys."""
    assert dict(ModuleTable(TEXT)) == json.loads(TEXT)
    assert list(ModuleTable(TEXT)) == ["a", "b", "c"]
    with pytest.raises(KeyError):
        ModuleTable(TEXT)["keyword"]


def test_the_whole_table_of_highdicom_is_the_same():
    """Every module of the release that is installed."""
    pytest.importorskip("highdicom._standard_utils")
    text = pkgutil.get_data("highdicom", "_standard/module_attribute_map.json").decode()
    table, expected = ModuleTable(text), json.loads(text)
    assert len(table) == len(expected) > 400
    assert all(table[key] == value for key, value in expected.items())


def test_highdicom_keeps_the_table_and_its_own_parser():
    """It was given when the texts of a SEG were imported."""
    tables = pytest.importorskip("highdicom._standard_utils")
    importlib.import_module("autosam_edge.dicom.segment_texts")
    assert isinstance(tables.get_module_attribute_map(), ModuleTable)
    assert tables.json is json


@pytest.mark.parametrize(("indent", "kind"), [(2, ModuleTable), (None, dict)])
def test_json_that_is_written_in_another_way_is_parsed_as_a_whole(indent, kind, monkeypatch):
    """No key is taken for one of the outermost object."""
    text, kept = json.dumps(json.loads(TEXT), indent=indent), []
    tables = SimpleNamespace(json=json)
    tables.get_module_attribute_map = lambda: kept.append(tables.json.loads(text))
    monkeypatch.setitem(sys.modules, "highdicom._standard_utils", tables)
    monkeypatch.setattr("highdicom._standard_utils", tables, raising=False)
    parse_on_demand()
    assert (type(kept[0]), dict(kept[0])) == (kind, json.loads(TEXT))
    assert tables.json is json


@pytest.mark.parametrize("tables", [None, SimpleNamespace(), SimpleNamespace(json=json)])
def test_a_release_that_is_built_otherwise_is_left_alone(tables, monkeypatch):
    """Up to 0.27 the table is Python code, and there is no such module."""
    monkeypatch.delattr("highdicom._standard_utils", raising=False)
    if tables is not None:
        monkeypatch.setattr("highdicom._standard_utils", tables, raising=False)
    monkeypatch.setitem(sys.modules, "highdicom._standard_utils", tables)
    before = dict(vars(tables or SimpleNamespace()))
    parse_on_demand()
    assert vars(tables or SimpleNamespace()) == before
    assert ModuleTable("{}") == {}
