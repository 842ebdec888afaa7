"""The service: tasks on resources, over HTTP.

Start reading at routes.py (what a route is) and app.py (how a request goes). What is served on: serve.py.
"""
