"""Adapters: each puts the agents of one framework under guard, in one line, within a run of the client's.

None is imported with `pikarc` itself, and each needs its framework: `pip install "pikarc[pydantic-ai]"` and so on. A call
that may not be made is not made: the model is told in words, or PikarcBlockedError is raised (`on_denied`). Trouble with
the guard itself (it is down, slow, broken) is always raised, and stops the agent.
"""
