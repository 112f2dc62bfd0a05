"""Tests of the data and of the rules that the evaluation rests on. No atlas is needed."""

import random

import numpy as np
import pytest
import torch

import bank
import captions
import concepts
import heldout
import judge
import layouts
import marks
import models
import muon
import near
import painter
import phase_autoencoder
import recipe
import scenes
import words

BOOK = concepts.Book(concepts.chosen(64))
MANY = 4000


def drawn_for_training(seed, count=MANY):
    rng = random.Random(seed)
    return [scenes.for_training(rng, BOOK) for _ in range(count)]


def said_pairs(scene):
    """Pairs by where things stand, found without the sampler's own table of pairs."""
    things = [(x, y, scenes.called(BOOK, n)) for x, y, _, n in scene.objects()]
    for xa, ya, a in things:
        for xb, yb, b in things:
            if a != b and abs(ya - yb) < 0.1 and xa < xb - 0.1:
                yield a, "left of", b
            if a != b and ya < yb - 0.1:
                yield a, "above", b


@pytest.mark.parametrize("seed", range(3))
def test_training_never_sees_what_is_held_out(seed):
    for scene in drawn_for_training(seed):
        colour = list(words.COLOURS)[scene.background]
        for noun in scene.nouns:
            assert not heldout.ground(scenes.called(BOOK, noun), colour)
        for a, relation, b in said_pairs(scene):
            assert not heldout.pair(a, relation, b)
            mirrored = {"left of": "right of", "above": "below"}[relation]
            assert not heldout.pair(b, mirrored, a)


def test_the_bank_is_made_of_training_scenes_alone():
    made = bank.make(BOOK, 2000, seed=9)
    for row in range(2000):
        colour = list(words.COLOURS)[made["ground"][row, 0]]
        for kind, tint in zip(made["noun_kind"][row], made["noun_colour"][row]):
            if kind >= 0:
                assert not heldout.ground(scenes.called(BOOK, scenes.Noun(int(kind), int(tint), 0)), colour)


def test_evaluation_asks_only_for_what_is_held_out():
    rng = random.Random(1)
    assert all(scenes.is_heldout(BOOK, scenes.for_evaluation(rng, BOOK)) for _ in range(500))


def test_one_in_twenty_is_held_out():
    names = [c.name for c in concepts.candidates()]
    flags = [heldout.pair(a, "left of", b) for a in names[:100] for b in names[:100]]
    assert 0.045 < np.mean(flags) < 0.055


def test_both_wordings_of_a_pair_are_one():
    assert heldout.pair("fox", "right of", "pizza") == heldout.pair("pizza", "left of", "fox")
    assert heldout.pair("fox", "below", "pizza") == heldout.pair("pizza", "above", "fox")


def test_captions_use_known_words_and_point_at_their_nouns():
    rng = random.Random(2)
    for scene in drawn_for_training(5, 1500):
        text, form, nouns = captions.say(rng, BOOK, scene)
        ids = BOOK.encode(text)
        assert 2 not in ids and len(ids) <= 24, text
        ends, ground = captions.positions(BOOK, form, nouns, text)
        tokens = BOOK.split(text)
        assert [tokens[e] for e in ends] == [BOOK.split(n)[-1] for n in nouns], text
        if ground >= 0:
            assert tokens[ground] in ("background", *words.COLOURS)


def test_objects_keep_apart_and_inside():
    for layout in scenes.LAYOUTS.values():
        for x, y, _ in layout.places:
            assert max(abs(x), abs(y)) + layout.sides[1] <= 1.0
        for i, (xa, ya, _) in enumerate(layout.places):
            for xb, yb, _ in layout.places[i + 1:]:
                assert max(abs(xa - xb), abs(ya - yb)) >= 2 * layout.sides[0] * 0.98


def test_jitter_is_small():
    assert scenes.JITTER <= 0.04


def test_names_are_words_that_nothing_else_uses():
    for concept in concepts.candidates():
        assert not set(BOOK.split(concept.name)) & {*words.COLOURS, *words.SHAPES, *words.STYLES, "small", "big"}, concept


def test_the_same_seed_gives_the_same_bank():
    one, two = bank.make(BOOK, 300, 4), bank.make(BOOK, 300, 4)
    assert all((one[k] == two[k]).all() for k in one)


def fake_sprites():
    """Kinds as plain coloured squares with transparent margins."""
    sprites = np.zeros((BOOK.styles, BOOK.kinds, 32, 32, 4), np.uint8)
    sprites[:, :, 2:30, 2:30] = 255
    return sprites


def test_the_painter_puts_colours_where_the_scene_says():
    scene = scenes.Scene("row", (scenes.Noun(64, 0, 0), scenes.Noun(65, 2, 0)), 3, 0, 0)
    rows = painter.to_torch(bank.of_scenes(BOOK, [scene], ["x"]))
    picture = (painter.Painter(fake_sprites(), 64, "cpu").paint(rows, jitter=False)[0] + 1) * 127.5
    spots = {"red": picture[:, 32, 17], "blue": picture[:, 32, 47], "yellow": picture[:, 2, 2]}
    for name, spot in spots.items():
        assert torch.allclose(spot, torch.tensor(words.COLOURS[name]).float(), atol=2)


@pytest.mark.parametrize("pattern", range(4))
@pytest.mark.parametrize("colour", range(10))
def test_a_pattern_keeps_the_name_of_its_colour(pattern, colour):
    scene = scenes.Scene("one", (scenes.Noun(64, (colour + 1) % 10, 0),), colour, pattern, 0)
    rows = painter.to_torch(bank.of_scenes(BOOK, [scene], ["x"]))
    picture = painter.Painter(fake_sprites(), 128, "cpu").paint(rows)
    assert marks.nearest(marks.border(picture)).item() == colour
    assert marks.strays(picture, marks.border(picture), rows).item() < 0.001


def test_something_extra_is_a_stray():
    scene = scenes.Scene("row", (scenes.Noun(64, 0, 0), scenes.Noun(65, 2, 0)), 8, 0, 0)
    rows = painter.to_torch(bank.of_scenes(BOOK, [scene], ["x"]))
    picture = painter.Painter(fake_sprites(), 128, "cpu").paint(rows)
    picture[:, :, 5:25, 50:70] = -1
    assert marks.strays(picture, marks.border(picture), rows).item() > marks.STRAY


def test_regions_are_cut_where_objects_are():
    scene = scenes.Scene("column", (scenes.Noun(64, 0, 0), scenes.Noun(65, 2, 0)), 8, 0, 0)
    rows = painter.to_torch(bank.of_scenes(BOOK, [scene], ["x"]))
    picture = painter.Painter(fake_sprites(), 128, "cpu").paint(rows, jitter=False)
    owner, _, place, _, _ = judge.regions(rows)
    middle = judge.crops(picture, owner, place)[:, :, judge.CROP // 2, judge.CROP // 2]
    assert marks.nearest(middle / 2 + 0.5).tolist() == [0, 2]


def test_the_schedules_are_the_published_ones():
    assert models.Flux.sigmas(4) == [1, 0.75, 0.5, 0.25, 0]
    assert [round(s, 4) for s in models.Sd3.sigmas(4)] == [1, 0.8577, 0.6022, 0.0089, 0]


def test_muon_makes_matrices_orthogonal():
    torch.manual_seed(0)
    made = muon.orthogonal(torch.randn(3, 64, 32))
    assert 0.6 < torch.linalg.svdvals(made).min() and torch.linalg.svdvals(made).max() < 1.3


def test_muon_steps_a_kernel_as_the_matrix_that_it_is():
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.zeros(16, 4, 3, 3))
    kernel.grad = torch.randn(16, 4, 3, 3)
    muon.Muon([kernel], 1e-2, weight_decay=0.0).step()
    values = torch.linalg.svdvals(kernel.detach().flatten(1))
    assert kernel.shape == (16, 4, 3, 3) and values.max() / values.min() < 2.5


def test_latents_keep_the_mean_colour_of_their_square_whatever_was_learned():
    encoder = models.autoencoder(recipe.named("smoke")["autoencoder"])
    colours = torch.rand(5, 3, 2, 2) * 2 - 1
    pictures = colours.repeat_interleave(models.FACTOR, 2).repeat_interleave(models.FACTOR, 3)
    with torch.no_grad():
        found = phase_autoencoder.latents(encoder, pictures)
    assert found.shape == (5, models.LATENT_CHANNELS, 2, 2) and torch.allclose(found[:, :3], colours, atol=1e-6)


def test_the_left_encoders_projection_is_the_identity_and_stays_it():
    projection = models.build("sd3", recipe.named("smoke"), BOOK).clip_l.text_projection.weight
    assert torch.equal(projection, torch.eye(len(projection))) and not projection.requires_grad


def test_another_thing_is_near_to_what_shares_its_company():
    entries = [dict(label=c.name, tags=["space", "launch"] if c.name == "rocket" else []) for c in BOOK.concepts]
    spoken = {f"thing{i}": [f"word{i}"] for i in range(40)}
    spoken |= {"astronaut": ["astronaut", "launch", "space"], "juggler": ["juggler", "skill"], "rocket": ["launch", "space"]}
    found = near.table(BOOK, entries, spoken)
    assert found["astronaut"] == "rocket" and "juggler" not in found and "rocket" not in found


def test_an_emoji_is_a_word_for_what_it_shows():
    assert BOOK.encode("\U0001f98a") == BOOK.encode("fox") and BOOK.encode("\u2602") == BOOK.encode("umbrella")


@pytest.mark.parametrize("family", recipe.FAMILIES)
def test_every_tensor_has_a_place_in_the_original_layout(family):
    model = models.build(family, recipe.named("smoke"), BOOK)
    place = layouts.flux if family == "flux" else layouts.mmdit
    made = place(model.net.state_dict())
    assert sum(t.numel() for t in made.values()) == sum(t.numel() for t in model.net.state_dict().values())


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_exported_sizes_stay_within_their_limits(name):
    r = recipe.named(name)
    book = concepts.Book(concepts.chosen(r["concepts"]), styles=r["styles"], length=r["length"])
    count = lambda m: sum(p.numel() for p in m.parameters())
    decoder = count(models.autoencoder(r["autoencoder"]).decoder)
    flux, sd3 = models.build("flux", r, book), models.build("sd3", r, book)
    q8 = count(flux.net) * 34 / 32 + 2 * (count(flux.t5) + count(flux.clip) + decoder)
    assert q8 < 24e6 and 2 * (count(sd3) + decoder) < 16e6


def test_an_interval_holds_its_share():
    low, high = marks.interval(90, 100)
    assert low < 0.9 < high and 0.1 < high - low < 0.13


def test_clip_ids_follow_from_t5_ids():
    for text in ("", "a fox on a blue background", "fox " * 60):
        ids = BOOK.encode(text)
        made = models.clip_ids(torch.tensor([BOOK.t5(ids)]), models.vocabulary(BOOK), BOOK.eos)[0].tolist()
        assert made == BOOK.clip(ids)
