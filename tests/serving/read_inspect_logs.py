"""Reads all logs of Inspect in a folder with its own reader, and prints what they hold as JSON."""

import json
import sys

from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample, read_eval_log_sample_summaries


def main() -> None:
    found = []
    for info in list_eval_logs(sys.argv[1]):
        log = read_eval_log(info)
        summaries = read_eval_log_sample_summaries(info)
        for each in summaries[:1]:
            read_eval_log_sample(info, id=each.id, epoch=each.epoch)
        samples = {
            f"{sample.metadata['sample_uid']} {sample.epoch - 1}": {
                "input": sample.input,
                "target": sample.target,
                "output": sample.output.completion,
                "stop_reason": str(sample.output.stop_reason),
                "tokens": sample.output.usage
                and [sample.output.usage.input_tokens, sample.output.usage.output_tokens],
                "scores": {name: score.value for name, score in (sample.scores or {}).items()},
                "error": sample.error and sample.error.message,
            }
            for sample in log.samples or []
        }
        scores = {each.name: {n: m.value for n, m in each.metrics.items()} for each in log.results.scores}
        header = {"model": log.eval.model, "task": log.eval.task, "status": log.status}
        n_summaries = len({(each.id, each.epoch) for each in summaries})
        found.append(header | {"samples": samples, "scores": scores, "n_summaries": n_summaries})
    print(json.dumps(found))


main()
