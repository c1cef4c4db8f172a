"""Bad input: an error that says what was found and what to do, and a model left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from broken_descriptions import Biased, DotForColon, InTuples
from families import family
from toy_model import Model, Sound, SoundBlock, images

import turbo
from turbo.adapters import Restore
from turbo.engine.install import find_acceleration

CLASSIFIER = family("vit-classifier")
IMAGES = torch.randn(2, 3, 48, 48)


def nan(candidates):
    return candidates.redundancy * float("nan")


def wrong_shape(candidates):
    return candidates.redundancy[:, :1]


def wrong_type(candidates):
    return candidates.redundancy.tolist()


def whole_numbers(candidates):
    return candidates.redundancy.long()


def crashes(candidates):
    return candidates.no_such_field


def label(case: object) -> str:
    if isinstance(case, dict):
        return "-".join(f"{name}={getattr(value, '__name__', value)}" for name, value in case.items())
    return ""


BAD_OPTIONS = [
    ({"drop": -1}, "drop=-1: must be a whole number of tokens, 0 or more"),
    ({"drop": 2.5}, "drop=2.5: must be an int, or one int per block"),
    ({"drop": True}, "drop=True"),
    ({"drop": "13"}, "drop='13'"),
    ({"drop": 37}, "drop=37: the model has only 37 tokens"),
    ({"drop": 10**9}, "the model has only 37 tokens"),
    ({"drop": [1, 2, 3]}, "drop has 3 counts and the model has 4 blocks"),
    ({"drop": [1, 2, 3, -4]}, r"drop\[3\]=-4"),
    ({"drop": 3, "speedup": 1.5}, "drop=3 and speedup=1.5 exclude each other"),
    ({"drop": 3, "ratio": 0.1}, "drop=3 and ratio=0.1 exclude each other"),
    ({"ratio": 0.6}, "ratio=0.6: a block can merge a fraction above 0 and at most 0.5"),
    ({"ratio": 0}, "ratio=0"),
    ({"speedup": 0.9}, "speedup=0.9: must be a factor above 1"),
    ({"speedup": 50}, "speedup=50 is out of reach: .* FLOPs fall by [0-9.]+x at most"),
    ({"threshold": -1}, "threshold=-1"),
    ({"min_tokens": 1.5}, "min_tokens=1.5"),
    ({"metric": "values"}, "metric='values': must be 'keys' or 'queries'"),
    ({"semantic_units": "percent"}, "semantic_units='percent'"),
    ({"semantic_units": "probability"}, "semantic_units='probability' goes with a strategy that you name"),
    ({"momentum": 1}, "momentum=1: must be a number, at least 0 and below 1"),
    ({"momentum": -0.1}, "momentum=-0.1: must be a number"),
    ({"momentum": float("nan")}, "momentum=nan: must be a number"),
    ({"momentum": True}, "momentum=True: must be a number"),
    ({"momentum": False}, "momentum=False: must be a number"),
    ({"momentum": "a"}, "momentum='a': must be a number"),
    ({"momentum": [0.5]}, r"momentum=\[0.5\]: must be a number"),
    ({"strategy": "s9"}, "no strategy is called 's9'; there are: attention, bound"),
    ({"strategy": 5}, "strategy=5: must be a name or a callable"),
    ({"strategy": turbo.fusion.S1}, r"pass an instance, S1\(\)"),
    ({"strategy": nan}, "strategy nan returned NaN"),
    ({"strategy": wrong_shape}, r"strategy wrong_shape returned shape \(2, 1\)"),
    ({"strategy": wrong_type}, "strategy wrong_type returned list"),
    ({"strategy": turbo.fusion.S4(beta=1e30)}, "returned NaN in block 0"),
    ({"strategy": whole_numbers}, "floating point"),
    ({"strategy": crashes}, "strategy crashes failed on sample candidates of block 0: AttributeError"),
    ({"adapter": "no-such"}, "no adapter is called 'no-such'; there are: blip, blip_2, clip"),
    (
        {"adapter": "clip"},
        r"the adapter clip describes transformers CLIPVisionModel.*; the model is a .*ViTForImageClassification",
    ),
    ({"adapter": turbo.adapters.Adapter}, "must be a name or an Adapter; pass an instance"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=label)
@pytest.mark.parametrize("already", [False, True], ids=["untouched", "accelerated"])
def test_bad_options_leave_the_model_as_it_was(options: dict, message: str, already: bool):
    model = CLASSIFIER.model()
    if already:
        turbo.accelerate(model, drop=5)
    before = model(IMAGES).logits
    with pytest.raises(turbo.TurboError, match=message):
        turbo.accelerate(model, **options)
    assert (find_acceleration(model) is not None) == already
    assert torch.equal(model(IMAGES).logits, before)


def test_unsupported_model():
    with pytest.raises(
        turbo.TurboError, match=r'no adapter fits .*linear.Linear .*Extending, "Write an adapter".*ViTModel'
    ):
        turbo.accelerate(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("thing", [None, "openai/clip-vit-base-patch32", {}])
def test_not_a_model(thing):
    with pytest.raises(turbo.TurboError, match=f"a {type(thing).__name__} is not a torch.nn.Module"):
        turbo.accelerate(thing)


def test_two_towers():
    both = torch.nn.ModuleDict({"left": CLASSIFIER.model(), "right": CLASSIFIER.model()})
    with pytest.raises(turbo.TurboError, match=r"2 towers \('left.vit', 'right.vit'\): accelerate each by itself"):
        turbo.accelerate(both)


def test_compiled_model():
    with pytest.raises(turbo.TurboError, match=r"accelerate first, then torch\.compile"):
        turbo.accelerate(torch.compile(CLASSIFIER.model()))


def test_report_of_an_untouched_model():
    with pytest.raises(turbo.TurboError, match=r"not accelerated: call turbo.accelerate\(model\) first"):
        turbo.report(CLASSIFIER.model())


def test_blocks_on_two_devices():
    model = CLASSIFIER.model()
    model.vit.layers[2].to("meta")
    with pytest.raises(turbo.TurboError, match=r"several devices \(cpu, meta\).*one device first"):
        turbo.accelerate(model)
    assert find_acceleration(model) is None


def test_input_on_another_device_than_the_model():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    with pytest.raises(turbo.TurboError, match="tokens on meta, its weights are on cpu.*move one"):
        model.vit.layers[0](torch.empty(1, 37, 48, device="meta"))


def test_model_moves_after_acceleration():
    """Nothing of turbo's lives on a device, so an accelerated model moves like any other."""
    model = turbo.accelerate(CLASSIFIER.model(), drop=4).to("meta")
    assert model(IMAGES.to("meta")).logits.device.type == "meta"


def test_a_strategy_that_turns_nan_later():
    def later(candidates):
        return candidates.redundancy * (float("nan") if candidates.depth == 2 else 1)

    model = turbo.accelerate(CLASSIFIER.model(), later, drop=4)
    with pytest.raises(turbo.TurboError, match="returned NaN in block 2"):
        model(IMAGES)


def test_a_drop_too_large_for_a_smaller_image():
    model = turbo.accelerate(CLASSIFIER.model(), drop=12, min_tokens=13)
    with pytest.raises(turbo.TurboError, match="the model has only 10 tokens"):
        model(torch.randn(1, 3, 24, 24), interpolate_pos_encoding=True)


def test_capped_drops_are_told():
    with pytest.warns(turbo.TurboWarning, match=r"drop=15 is more than half of the tokens in blocks 1, 2, 3 \(from 37"):
        model = turbo.accelerate(CLASSIFIER.model(), drop=15)
    assert model(IMAGES).logits.isfinite().all()
    assert "drop=15 is more than half" in str(turbo.report(model))


def test_foreign_forwards_are_respected():
    model = CLASSIFIER.model()
    model.vit.layers[1].forward = lambda x, *_: x
    with pytest.raises(turbo.TurboError, match="forward of its own on the instance"):
        turbo.accelerate(model)
    assert find_acceleration(model) is None


def test_restore_after_someone_else_patched():
    model = turbo.accelerate(CLASSIFIER.model(), drop=4)
    ours = model.vit.layers[1].forward
    model.vit.layers[1].forward = lambda x: x
    with pytest.raises(turbo.TurboError, match="forward of ViTLayer was replaced after turbo.accelerate"):
        turbo.restore(model)
    model.vit.layers[1].forward = ours
    turbo.restore(model)
    assert find_acceleration(model) is None


def test_unknown_layout_names_the_package():
    model = CLASSIFIER.model()
    del model.vit.layers
    with pytest.raises(turbo.TurboError, match="does not know this layout of ViTModel .*version of transformers"):
        turbo.accelerate(model)


@pytest.mark.parametrize("target", ["toy_model.Model", "Model", "toy_model:", ":Model", "toy model:Model", 3, None])
def test_a_target_must_name_a_module_and_a_class(target):
    adapter = type("Misspelt", (Sound,), {"target": target})()
    with pytest.raises(turbo.TurboError, match=rf'target {target!r} of Misspelt is not "package.module:Class"'):
        turbo.accelerate(Model(), adapter=adapter)


def test_a_registered_adapter_with_a_bad_target_is_found_out_when_it_is_loaded():
    """`turbo.accelerate` then leaves it out with a warning; another model does not suffer."""
    from turbo.engine.detect import _instance

    with pytest.raises(turbo.TurboError, match="target 'toy_model.Model' of DotForColon is not"):
        _instance("dots", DotForColon)


def test_an_adapter_needs_a_target_or_a_distance_of_its_own():
    def distance(self, model):
        return 0 if isinstance(model, Model) else None

    described = {name: getattr(Sound, name) for name in ("sites", "shape", "block")}
    with pytest.raises(turbo.TurboError, match="NoTarget has no target: set it to"):
        turbo.accelerate(Model(), adapter=type("NoTarget", (turbo.adapters.Adapter,), described)())
    own = type("Own", (turbo.adapters.Adapter,), described | {"distance": distance})()
    assert turbo.report(turbo.accelerate(Model(), adapter=own)).adapter == "Own"
    with pytest.raises(turbo.TurboError, match=r"the adapter Own describes what Own.distance\(\) says; the model is a"):
        turbo.accelerate(CLASSIFIER.model(), adapter=own)


MISTAKES = [
    ({"sites": lambda self, model: list(model.blocks)}, "sites.. of Mine lists a Block at 0: wrap it in your Residual"),
    ({"sites": lambda self, model: [SoundBlock, SoundBlock]}, "lists the class SoundBlock at 0, not an instance"),
    ({"sites": lambda self, model: ["blocks"]}, "lists a str at 0: list ResidualBlock, Restore, Refuse"),
    ({"sites": lambda self, model: [Restore(model.norm)]}, "sites.. of Mine lists no ResidualBlock"),
    ({"shape": lambda self, model: 25}, r"shape\(\) of Mine returned 25: it must return \(tokens, width\)"),
    ({"shape": lambda self, model: (25, 16, 1)}, r"returned \(25, 16, 1\): it must"),
    ({"shape": lambda self, model: (25, 16.0)}, r"returned \(25, 16.0\): it must"),
    ({"shape": lambda self, model: None}, "returned None: it must"),
]


@pytest.mark.parametrize(("described", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_mistakes_in_an_adapter_are_told(described: dict, message: str):
    model = Model()
    with pytest.raises(turbo.TurboError, match=message):
        turbo.accelerate(model, adapter=type("Mine", (Sound,), described)())
    assert find_acceleration(model) is None


def test_a_block_that_returns_a_tuple_is_told_at_the_first_merge():
    """The model takes item 0 of what a block returns: of turbo's blocks that is the first image."""
    model, patches = InTuples(), images(2)["images"]
    untouched = model(patches)
    turbo.accelerate(model, drop=2, adapter=Sound())
    with pytest.raises(turbo.TurboError, match=r"TupleBlock got a tensor of shape \(23, 16\), not b n d: .* a tuple\?"):
        model(patches)
    assert torch.equal(turbo.accelerate(model, drop=0, adapter=Sound())(patches), untouched)


def test_what_a_model_itself_hands_to_its_blocks_is_refused_for_good():
    model = turbo.accelerate(Biased(), drop=2, adapter=Sound())
    with pytest.raises(turbo.TurboError, match=r"called with shared_bias = a tensor.* raise Unsupported in sites\(\)"):
        model(images(2)["images"])


def test_blocks_that_cannot_be_described_are_refused():
    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    model = VisionTransformer(
        img_size=48, patch_size=8, embed_dim=48, depth=2, num_heads=3, block_fn=ParallelScalingBlock
    )
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(turbo.TurboError, match="timm block of class ParallelScalingBlock"):
        turbo.accelerate(model)
    assert before.keys() == model.state_dict().keys()


def test_unusual_attention_is_refused():
    from open_clip.transformer import VisionTransformer as OpenClip
    from timm.models.vision_transformer import VisionTransformer as Timm

    gated = Timm(img_size=48, patch_size=8, embed_dim=48, depth=1, num_heads=3)
    gated.blocks[0].attn.gate = torch.nn.Linear(48, 48)
    with pytest.raises(turbo.TurboError, match="timm attention with an output gate"):
        turbo.accelerate(gated)
    shape = {"image_size": 48, "patch_size": 8, "width": 48, "layers": 1, "heads": 3, "mlp_ratio": 2.0}
    for option in ("scaled_cosine_attn", "scale_heads"):
        model = OpenClip(**shape, **{option: True})
        with pytest.raises(turbo.TurboError, match="scaled-cosine or head-scaled attention is not supported"):
            turbo.accelerate(model)
    model = OpenClip(**shape)
    model.transformer.batch_first = False
    with pytest.raises(turbo.TurboError, match="batch_first=False"):
        turbo.accelerate(model)


def test_two_adapters_equally_near():
    from turbo.adapters.vit import ViT
    from turbo.engine.detect import _nearest

    with pytest.raises(turbo.TurboError, match="'one' and 'two' fit ViTModel equally well: choose with adapter="):
        _nearest(CLASSIFIER.model().vit, [("one", ViT()), ("two", ViT())])


def test_the_nearer_class_wins():
    from transformers import ViTModel

    from turbo.adapters.vit import ViT
    from turbo.engine.detect import find_tower

    class Mine(ViTModel):
        pass

    class MineAdapter(ViT):
        target = f"{__name__}:Mine"

    import sys

    sys.modules[__name__] = type(sys)(__name__)
    sys.modules[__name__].Mine = Mine  # type: ignore[attr-defined]
    model = Mine(CLASSIFIER.model().config)
    assert find_tower(model, MineAdapter())[1] == "MineAdapter"
    assert MineAdapter().distance(model) == 0
    assert ViT().distance(model) == 1
    assert MineAdapter().distance(CLASSIFIER.model().vit) is None
