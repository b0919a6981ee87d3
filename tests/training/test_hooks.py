"""The hooks of TRL 1.16 that are overridden: each fails loudly when its signature moves."""

import inspect

import pytest
import trl
from transformers import GenerationMixin, Trainer
from transformers.trainer_callback import ExportableState
from trl import GRPOTrainer, SFTTrainer
from trl.trainer import utils
from trl.trainer.utils import RepeatSampler, get_peak_flops

from medrft.training.ahead import GradesAhead
from medrft.training.callbacks import Watched
from medrft.training.exact import KEPT
from medrft.training.grpo import GRPO
from medrft.training.heads import SCALES
from medrft.training.resampling import Resamples
from medrft.training.sft import SFT
from medrft.training.sharing.loss import SharesLoss
from medrft.training.sharing.trainer import SharesPrompts
from medrft.training.stage import StageTrainer

SIGNATURES = {
    (GRPOTrainer, "_calculate_rewards"): ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    (GRPOTrainer, "_generate_and_score_completions"): ["self", "inputs"],
    (GRPOTrainer, "_tokenize_prompts"): ["self", "prompts"],
    (GRPOTrainer, "_generate"): ["self", "prompts"],
    (GRPOTrainer, "_generate_single_turn"): [
        *("self", "prompt_ids", "images", "multimodal_fields", "num_generations", "has_tool_images"),
    ],
    (GRPOTrainer, "_prepare_inputs"): ["self", "generation_batch"],
    (GRPOTrainer, "_compute_loss"): ["self", "model", "inputs"],
    (GRPOTrainer, "_get_per_token_logps_and_entropies"): [
        *("self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"),
        *("compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask"),
        *("spatial_shapes", "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids"),
    ],
    (GRPOTrainer, "_get_train_sampler"): ["self", "dataset"],
    (GRPOTrainer, "_save_checkpoint"): ["self", "model", "trial"],
    (GRPOTrainer, "_send_telemetry"): ["self"],
    (SFTTrainer, "_send_telemetry"): ["self"],
    (SFTTrainer, "compute_loss"): ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    (GRPOTrainer, "create_model_card"): ["self", "model_name", "dataset_name", "tags"],
    (SFTTrainer, "create_model_card"): ["self", "model_name", "dataset_name", "tags"],
    (Trainer, "log"): ["self", "logs", "start_time"],
    (Trainer, "get_batch_samples"): ["self", "epoch_iterator", "num_batches", "device"],
    (Trainer, "_maybe_log_save_evaluate"): [
        *("self", "tr_loss", "grad_norm", "model", "trial", "epoch", "ignore_keys_for_eval", "start_time"),
        "learning_rate",
    ],
    (Trainer, "_save_checkpoint"): ["self", "model", "trial"],
    (Trainer, "_load_rng_state"): ["self", "checkpoint"],
    (Trainer, "_finalize_training"): ["self", "trial", "num_train_samples", "start_time"],
    (Trainer, "_load_from_checkpoint"): ["self", "resume_from_checkpoint", "model"],
    (Trainer, "_load_best_model"): ["self"],
    (Trainer, "_determine_best_metric"): ["self", "metrics", "trial"],
    (ExportableState, "state"): ["self"],
}
SAMPLER = ["data_source", "mini_repeat_count", "batch_size", "repeat_count", "shuffle", "seed"]


@pytest.mark.parametrize(("owner", "name"), SIGNATURES, ids=lambda value: getattr(value, "__name__", value))
def test_signature(owner, name):
    assert list(inspect.signature(getattr(owner, name)).parameters) == SIGNATURES[owner, name]


@pytest.mark.parametrize(("ours", "theirs"), [(GRPO, GRPOTrainer), (SFT, SFTTrainer)])
def test_every_override_has_a_signature_above(ours, theirs):
    mixins = [StageTrainer, Resamples, GradesAhead, SharesPrompts, SharesLoss] if ours is GRPO else [StageTrainer]
    private = {name for owner in (ours, *mixins) for name in vars(owner) if hasattr(theirs, name) and name[:2] != "__"}
    assert private == {name for owner, name in SIGNATURES if owner is theirs}


def test_what_decides_which_positions_the_fused_head_scores():
    """`training.sft` answers this question for a CPU while SFT computes its loss."""
    source = inspect.getsource(utils.add_fused_lm_head)
    assert source.count("_use_triton") == 1 and "compact = _use_triton(hidden_states.device)" in source
    assert list(inspect.signature(utils._use_triton).parameters) == ["device"]


def test_what_scales_the_fused_head():
    """`training.heads` hides these entries from it while a trainer is built."""
    source = inspect.getsource(utils.add_fused_lm_head)
    assert {name for name in SCALES if f'text_config, "{name}", None)' in source} == set(SCALES)
    assert source.index("logit_scale = 1.0 if logit_scale is None") < source.index("def _fused_forward")


def test_the_tested_minor_version_is_installed():
    assert trl.__version__.startswith("1.16.")


def test_the_watch_sees_the_log_after_trl_and_before_the_trackers():
    order = GRPO.__mro__
    assert order.index(GRPOTrainer) < order.index(Watched) < order.index(Trainer)
    source = inspect.getsource(GRPOTrainer.log)
    assert source.index("logs.update(metrics)") < source.index("super().log(logs, start_time)")
    assert list(inspect.signature(GRPOTrainer.log).parameters) == SIGNATURES[Trainer, "log"]


GENERATION = {
    "_get_logits_processor": [
        *("self", "generation_config", "input_ids_seq_length", "encoder_input_ids", "prefix_allowed_tokens_fn"),
        *("logits_processor", "device", "model_kwargs", "negative_prompt_ids", "negative_prompt_attention_mask"),
    ],
    "_prepare_generation_config": ["self", "generation_config", "kwargs"],
    "_prepare_special_tokens": ["self", "generation_config", "kwargs_has_attention_mask", "device", "batch_size"],
}


@pytest.mark.parametrize("name", GENERATION)
def test_what_shared_rollouts_call_of_generate(name):
    assert list(inspect.signature(getattr(GenerationMixin, name)).parameters) == GENERATION[name]


def test_trl_reads_the_processor_a_second_time_after_generating():
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert source.index("self._generate(prompts)") < source.index("self.processing_class(images=images")
    preparing = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in preparing
    assert "shuffle_sequence_dict" in preparing


def test_a_step_begins_and_ends_where_it_is_measured():
    epoch, step = inspect.getsource(Trainer._run_epoch), inspect.getsource(Trainer.training_step)
    order = [
        "self.get_batch_samples(",
        "self.training_step(",
        "self.optimizer.step()",
        ".on_step_end(",
        "_maybe_log_save",
    ]
    assert [epoch.index(name) for name in order] == sorted(epoch.index(name) for name in order)
    order = ["self._prepare_inputs(inputs)", "self.compute_loss(", "self.accelerator.backward("]
    assert [step.index(name) for name in order] == sorted(step.index(name) for name in order)
    assert "_set_sync_gradients(do_sync_step)" in epoch  # told before the step, which the optimizer's part begins by
    assert 'self._metrics["train"]["step_time"].append(' in inspect.getsource(GRPOTrainer.training_step)
    mean = 'self._metrics[mode]["completions/mean_length"].append('
    assert mean in inspect.getsource(GRPOTrainer._generate)
    assert list(inspect.signature(get_peak_flops).parameters) == ["device_name", "dtype"]


def test_the_sampler_takes_and_keeps_what_we_copy():
    assert list(inspect.signature(RepeatSampler.__init__).parameters)[1:] == SAMPLER
    made = RepeatSampler([0, 1], mini_repeat_count=2, seed=3)
    assert all(hasattr(made, name) for name in [*SAMPLER, "generator"])


def test_what_the_overrides_read_of_trl_is_still_set():
    source = inspect.getsource(GRPOTrainer)
    for name in ("self._metrics = {", "self.num_generations_eval =", "self.eos_token_ids =", "self._tokenizer ="):
        assert name in source
    rewards = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert "self._calculate_rewards(inputs, prompts, completions, completion_ids_list)" in rewards
    assert '"advantages": advantages' in rewards


def test_what_checkpoints_hold_beyond_trls_is_still_where_it_was():
    assert {"_step", "_buffered_inputs", "_total_train_tokens", "_tr_loss", "_globalstep_last_logged"} == set(KEPT)
    grpo, loop = inspect.getsource(GRPOTrainer), inspect.getsource(Trainer)
    assert "self._step = 0" in grpo and "self._buffered_inputs = None" in grpo
    for trainer in (grpo, inspect.getsource(SFTTrainer)):
        assert "self._metrics = {" in trainer and "self._total_train_tokens = 0" in trainer
    assert "self._tr_loss = torch.tensor(0.0" in loop and "self._globalstep_last_logged = " in loop
    for name in ("_load_rng_state(resume_from_checkpoint)", "get_batch_samples(epoch_iterator"):
        assert name in inspect.getsource(Trainer._run_epoch)  # restored after the counters are set, before a step
    assert "save_total_limit=self.args.save_total_limit" in inspect.getsource(Trainer._save_checkpoint)
    assert "self.args.save_total_limit == 1" in inspect.getsource(Trainer._finalize_training)
