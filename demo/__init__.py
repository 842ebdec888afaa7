"""`make demo`: the service's story over HTTP, and scenes on a real device protocol, each proved by what the guests or
the device wrote themselves.

The story: story.py on service.py, with web.py (requests), stream.py (events), proxy.py (an answer that is lost);
guests.py reads what the guests write, proofs.py is what each scene must prove.
The device: bmc.py, whose log calls.py reads; power.py is the flow that is shown, scenes.py the scenes, evidence.py what
each must prove. children.py are the processes of both. Nothing here is part of the library.
"""
