"""The losses are what the equations say, and least where the prediction is the target."""

from __future__ import annotations

import math
from functools import partial

import pytest

torch = pytest.importorskip("torch")
from autosam_edge_training.recipe_parts.losses import (
    class_weights,
    complete,
    dice_cross_entropy,
    distillation,
    divergence,
    equation_1,
    supervised,
    trust_in,
)


def halves(classes=3):
    """Half of the voxels class 0, half class 1; class 2 is absent."""
    occupancy = torch.zeros(1, classes, 4, 4, 4)
    occupancy[:, 0, :2] = 1
    occupancy[:, 1, 2:] = 1
    return occupancy


def random_pair(batch=2, classes=4, *, shape=(4, 5, 6), seed=0):
    """Logits that learn, and one-hot targets in which the last class is absent."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *shape, generator=generator) * 2
    labels = torch.randint(0, classes - 1, (batch, *shape), generator=generator)
    one_hot = torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()
    return logits.requires_grad_(), one_hot


def gradient(loss, logits):
    """Of a loss with respect to the logits."""
    return torch.autograd.grad(loss, logits)[0]


def test_equation_1_is_monais():
    """Value and gradient of DiceCELoss(softmax=True), background and an absent class included."""
    losses = pytest.importorskip("monai.losses")
    logits, one_hot = random_pair()
    ours, theirs = (
        equation_1(logits, one_hot),
        losses.DiceCELoss(softmax=True, to_onehot_y=False)(logits, one_hot),
    )
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient(ours, logits), gradient(theirs, logits))


def test_equation_1_of_a_sure_prediction():
    """All right: 0. All wrong, by 40: cross entropy 40, Dice loss 1 for two classes, 0 for the absent one."""
    sure = halves() * 80 - 40
    assert float(equation_1(sure, halves())) == pytest.approx(0.0, abs=1e-5)
    swapped = halves()[:, [1, 0, 2]] * 40
    assert float(equation_1(swapped, halves())) == pytest.approx(40 + 2 / 3, rel=1e-5)


@pytest.mark.parametrize("loss", [equation_1, dice_cross_entropy], ids=["paper", "present"])
def test_a_batch_is_the_mean_of_its_patches(loss):
    """So processes that share a batch minimize what one process would; patches with different classes."""
    logits, one_hot = random_pair()
    one_hot[1, 1] += one_hot[1, 0]  # the second patch has two classes, the first three
    one_hot[1, 0] = 0
    alone = [loss(logits[i : i + 1], one_hot[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(logits, one_hot), sum(alone) / 2)


@pytest.mark.parametrize("loss", [equation_1, dice_cross_entropy], ids=["paper", "present"])
def test_half_precision_logits_are_summed_in_single(loss):
    """Under autocast a network gives bfloat16; a sum of thousands of voxels must not be one."""
    logits, one_hot = random_pair(shape=(12, 12, 12))
    found = loss(logits.bfloat16(), one_hot)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(logits.bfloat16().float(), one_hot))


def test_a_sure_and_right_prediction_costs_nothing():
    """Logits of +-30 on the truth: Dice and cross entropy vanish."""
    assert float(dice_cross_entropy(halves() * 60 - 30, halves())) == pytest.approx(0.0, abs=1e-5)


def test_an_even_prediction_costs_what_it_should():
    """Probability 1/3 everywhere: cross entropy log 3; Dice from sums over 64 voxels in closed form."""
    overlap, squares = 32 / 3, 64 / 9 + 32
    dice = 1 - (2 * overlap + 1) / (squares + 1)
    assert float(dice_cross_entropy(torch.zeros(1, 3, 4, 4, 4), halves())) == pytest.approx(
        math.log(3) + dice, rel=1e-5
    )


def test_a_fractional_target_is_its_own_best_prediction():
    """Gradient descent on the logits ends at the occupancy."""
    torch.manual_seed(0)
    occupancy = torch.rand(1, 3, 4, 4, 4).softmax(1)
    logits = torch.zeros_like(occupancy, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        dice_cross_entropy(logits, occupancy).backward()
        optimizer.step()
    assert float((logits.detach().softmax(1) - occupancy).abs().max()) < 0.01


def test_an_absent_class_has_no_dice_term():
    """Only the cross entropy speaks of class 2: its weight decides alone."""
    logits = torch.randn(1, 3, 4, 4, 4)
    weight = torch.tensor([1.0, 1.0, 100.0])
    assert float(dice_cross_entropy(logits, halves(), class_weight=weight)) == pytest.approx(
        float(dice_cross_entropy(logits, halves()))
    )


def test_weights_multiply_a_classs_cross_entropy():
    """Even prediction, half of the voxels class 1: its weight of 3 adds log 3 to log 3's mean of the two."""
    logits, weight = torch.zeros(1, 3, 4, 4, 4), torch.tensor([1.0, 3.0, 1.0])
    extra = float(dice_cross_entropy(logits, halves(), class_weight=weight)) - float(
        dice_cross_entropy(logits, halves())
    )
    assert extra == pytest.approx(0.5 * 2.0 * math.log(3), rel=1e-5)


def test_rare_classes_weigh_more_within_bounds():
    """Cube root of median over share, kept between 0.5 and 4."""
    weight = class_weights(torch.tensor([0.9, 0.08, 0.01, 0.001, 1e-9]))
    assert weight.tolist() == pytest.approx([0.5, 0.5, 1.0, 10 ** (1 / 3), 4.0], rel=1e-4)


@pytest.mark.parametrize("classes", [2, 5, 14])
def test_the_distance_of_knowing_nothing_from_a_sure_teacher(classes):
    """(1 - 1/C)^2 + (C - 1) / C^2 = 1 - 1/C per voxel."""
    logits, sure = torch.zeros(2, classes, 3, 4, 5), torch.zeros(2, classes, 3, 4, 5)
    sure[:, 1] = 1
    assert float(distillation(logits, sure, reduction="voxel")) == pytest.approx(1 - 1 / classes, rel=1e-5)


def test_a_mean_over_voxels_is_c_times_that_over_elements():
    """The one difference between the two readings of equation 2."""
    logits, one_hot = random_pair(classes=6)
    voxel, element = (
        distillation(logits, one_hot, reduction=reduction) for reduction in ("voxel", "element")
    )
    torch.testing.assert_close(voxel, 6 * element)
    torch.testing.assert_close(element, torch.nn.functional.mse_loss(logits.softmax(dim=1), one_hot))


def test_the_teachers_own_answer_costs_nothing():
    """At its probabilities loss and gradient are zero; logits may differ by a constant."""
    logits, _ = random_pair()
    teacher = logits.detach().softmax(dim=1)
    told = distillation(logits + 3.0, teacher, reduction="voxel")
    assert told.item() == pytest.approx(0.0, abs=1e-10)
    assert float(gradient(told, logits).abs().max()) < 1e-7


def test_the_gradient_leads_to_the_teacher():
    """From equal shares up where the teacher has more than 1/C, down elsewhere; steps along it arrive."""
    teacher = torch.tensor([0.7, 0.2, 0.1]).reshape(1, 3, 1, 1, 1).expand(1, 3, 2, 2, 2)
    logits = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    first = gradient(distillation(logits, teacher, reduction="voxel"), logits)
    assert torch.equal(first.sign()[0, :, 0, 0, 0], torch.tensor([-1.0, 1.0, 1.0]))
    for _ in range(400):
        slope = gradient(distillation(logits, teacher, reduction="voxel"), logits)
        logits = (logits - 20.0 * slope).detach().requires_grad_()
    torch.testing.assert_close(logits.detach().softmax(dim=1), teacher, atol=1e-3, rtol=0.0)


def test_a_teacher_is_trusted_less_where_only_it_labeled():
    """Known voxels count fully; others as much as the teacher is certain, in both distances."""
    logits, one_hot = random_pair()
    teacher = torch.randn_like(logits).softmax(dim=1)
    known = one_hot.clone()
    known[..., 2:] = 0.0
    trust = trust_in(teacher, known)
    assert torch.equal(trust[..., :2], torch.ones_like(trust[..., :2]))
    torch.testing.assert_close(trust[..., 2:], teacher.amax(dim=1, keepdim=True)[..., 2:])
    each = ((logits.softmax(dim=1) - teacher) ** 2).sum(dim=1, keepdim=True)
    torch.testing.assert_close(
        distillation(logits, teacher, reduction="voxel", trust=trust), (each * trust).mean()
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_the_divergence_is_that_of_softened_probabilities(temperature):
    """Sum of t log(t / s), logits divided by the temperature, times its square; zero at the teacher."""
    torch.manual_seed(1)
    logits, teacher = torch.randn(2, 1, 4, 2, 3, 4)
    softened = [(one / temperature).softmax(dim=1) for one in (logits, teacher)]
    expected = (softened[1] * (softened[1] / softened[0]).log()).sum(dim=1).mean() * temperature**2
    everywhere = torch.ones(1, 1, 2, 3, 4)
    found = divergence(logits, teacher.softmax(dim=1), temperature=temperature, trust=everywhere)
    torch.testing.assert_close(found, expected)
    same = divergence(teacher, teacher.softmax(dim=1), temperature=temperature, trust=everywhere)
    assert same.item() == pytest.approx(0.0, abs=1e-6)


def test_one_output_is_supervised_as_it_is():
    """The loss of the logits, and the logits themselves."""
    logits, one_hot = random_pair()
    loss, back = supervised(logits, one_hot, torch.ones(1, one_hot.shape[1]), equation_1)
    torch.testing.assert_close(loss, equation_1(logits, one_hot))
    assert back is logits


def test_a_coarse_output_counts_half_against_the_mean_of_its_voxels():
    """The occupancy of a coarse voxel is the mean of its 4^3 fine ones; fine logits are returned."""
    logits, one_hot = random_pair(shape=(4, 8, 12))
    coarse = torch.randn(2, 4, 1, 2, 3)
    pooled = one_hot.reshape(2, 4, 1, 4, 2, 4, 3, 4).mean(dim=(3, 5, 7))
    loss, back = supervised((logits, coarse), one_hot, torch.ones(1, one_hot.shape[1]), dice_cross_entropy)
    torch.testing.assert_close(
        loss, dice_cross_entropy(logits, one_hot) + 0.5 * dice_cross_entropy(coarse, pooled)
    )
    assert back is logits


def test_what_is_not_known_costs_the_marginal_cross_entropy():
    """A voxel that may be class 0 or 2 has the gradient of -log(p0 + p2), and pushes class 1 down."""
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 1, 1, 1, requires_grad=True)
    nothing, possible = torch.zeros(1, 3, 1, 1, 1), torch.tensor([[1.0, 0.0, 1.0]])
    target = complete(logits, nothing, possible)
    assert target.sum().item() == pytest.approx(1.0)
    assert target[0, 1].item() == 0.0
    cross_entropy = -(target * logits.log_softmax(1)).sum()
    probability = logits.softmax(1)
    marginal = -(probability[:, 0] + probability[:, 2]).log().sum()
    torch.testing.assert_close(gradient(cross_entropy, logits), gradient(marginal, logits))


@pytest.mark.parametrize(
    "loss",
    [
        equation_1,
        dice_cross_entropy,
        partial(dice_cross_entropy, class_weight=torch.tensor([0.5, 1.0, 1.0, 4.0])),
    ],
    ids=["paper", "present", "present, weighted"],
)
@pytest.mark.parametrize("share", [0.0, 0.4], ids=["nothing known", "partly known"])
def test_where_everything_is_possible_only_the_known_part_teaches(loss, share):
    """The rest of the target is the network's own probability, whatever a class weighs: it has no slope."""
    logits, one_hot = random_pair()
    slope = gradient(supervised(logits, one_hot * share, torch.ones(2, 4), loss)[0], logits)
    whole = gradient(loss(logits, one_hot), logits)
    if share == 0.0:
        assert float(slope.abs().max()) < 2e-3 * float(whole.abs().max())
    else:
        assert float((slope * whole).sum()) > 0.3 * float((whole * whole).sum())


def test_a_known_occupancy_stays_as_it_is():
    """Whatever is possible elsewhere."""
    logits, one_hot = random_pair()
    assert complete(logits, one_hot, torch.zeros(2, 4)) is one_hot
    half = one_hot.clone()
    half[:, :, :2] = 0
    found = complete(logits, half, torch.ones(2, 4))
    assert torch.equal(found[:, :, 2:], one_hot[:, :, 2:])
    torch.testing.assert_close(found[:, :, :2], logits[:, :, :2].softmax(1))
