"""Links: one file per way of talking to a robot.

`link.py` says what a link must offer.  A new robot is one new file with a class that offers it.
"""
