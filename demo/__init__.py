"""`make demo`: five scenes on a real device protocol, each proved by the device's own call log.

bmc.py is the device, calls.py reads its log, power.py the flow that is shown, children.py the processes, evidence.py
what each scene must prove, scenes.py the scenes. Nothing here is part of the library.
"""
