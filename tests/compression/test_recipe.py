"""A recipe in place of the options: frozen, complete, and the only thing that says how."""

import inspect
from dataclasses import FrozenInstanceError, asdict, fields

import pytest
import torch
from test_compress import assert_same_state

import prunekit as pk
from prunekit.compression.recipe import Options, Recipe
from prunekit.errors import PrunekitError

OPTIONS = [
    {"sparsity": 0.5},
    {"sparsity": 0.3, "fp8": "e4m3", "compensate": True},
    {"pattern": "2:4", "fp8": "e5m2", "granularity": "block"},
    {"pattern": "2:4", "method": "admm", "permute": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_recipe_does_what_its_options_do(llama, ids, options):
    by_options, by_recipe = pk.compress(llama, ids, **options), pk.compress(llama, ids, pk.Recipe(**options))
    assert_same_state(by_options.model, by_recipe.model.state_dict())
    assert by_options.recipe == by_recipe.recipe == Recipe(**options)


def test_an_option_beside_a_recipe_is_refused_even_if_it_says_the_same(llama, ids):
    recipe = pk.Recipe(sparsity=0.5)
    for options in ({"sparsity": 0.7}, {"sparsity": 0.5}, {"fp8": None}):
        with pytest.raises(PrunekitError, match=f"{next(iter(options))} is given beside a recipe"):
            pk.compress(llama, ids, recipe, **options)


@pytest.mark.parametrize("recipe", [{"sparsity": 0.5}, "fast", 0.5])
def test_something_else_than_a_recipe_is_refused(llama, ids, recipe):
    with pytest.raises(PrunekitError, match=r"expected a pk\.Recipe"):
        pk.compress(llama, ids, recipe)


def test_an_option_that_there_is_not_is_python_s_error(llama, ids):
    with pytest.raises(TypeError, match="sparsty"):
        pk.compress(llama, ids, sparsty=0.5)


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        pk.Recipe(sparsity=0.5).sparsity = 0.7


def test_the_options_are_the_fields_and_the_signature_lists_them():
    names = [field.name for field in fields(Recipe)]
    assert [*Options.__annotations__] == names
    listed = inspect.signature(pk.compress).parameters
    assert set(names) <= listed.keys() and "options" not in listed
    assert all(listed[field.name].default == field.default for field in fields(Recipe))


def test_what_a_recipe_lacks_is_kept(llama, ids):
    budget = dict.fromkeys(pk.linear_layers(llama, "mlp"), 0.4)
    result = pk.compress(llama, ids, sparsity=0.4, budget=budget, include="mlp")
    recovered = pk.recover(result, llama, ids, steps=2, seed=5)
    kept = asdict(result.provenance)
    assert (kept["include"], kept["exclude"], kept["budget"], kept["recovery"]) == (("mlp",), (), budget, None)
    recovery = asdict(recovered.provenance)["recovery"]
    assert recovery["steps"] == 2 and recovery["seed"] == 5 and recovery["minutes"] is None
    again = pk.compress(llama, ids, result.recipe, **{name: kept[name] for name in ("include", "exclude", "budget")})
    again = pk.recover(again, llama, ids, **recovery)
    for (name, one), other in zip(recovered.model.state_dict().items(), again.model.state_dict().values()):
        assert torch.equal(one, other), name
