"""`./run demo`: start everything, walk the loop once on the clinic, and say what came of it."""

from service.demo.command import main

main()
