"""The one OpenAI-compatible client: chat completions for the judge, a teacher, or a model under test.

    endpoint = Endpoint(model="qwen3-8b", base_url="http://localhost:8000/v1")
    endpoint.ask([[{"role": "user", "content": "Is the lung in the chest?"}]], max_tokens=8)
    -> [Reply(text='Yes.', finish='stop', prompt_tokens=17, completion_tokens=3, …)]

A request that fails after its retries comes back as an `EndpointError` in its place: a value, so that one outage costs
one answer and not the batch. The API key is read from an environment variable when a request is sent, and stands in no
field, file or message.
"""

from medrft.errors import naming_extras

with naming_extras():
    from medrft.endpoint.attempt import Reply
    from medrft.endpoint.client import Counts, Endpoint, Messages

__all__ = ["Counts", "Endpoint", "Messages", "Reply"]
