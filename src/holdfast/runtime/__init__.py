"""Where user code runs. One protocol (base.py), five ways: inline, threads, asyncio, processes, any executor.

What is run, when, and what its outcome means: drive.py, and under it core/machine.py.
"""
