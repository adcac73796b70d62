"""The page for people: Status, history and events -> HTML. No I/O, no script, nothing from elsewhere.

What others wrote (names, reasons, texts of stores) is text until ``markup.element`` has escaped it, and no
other way leads into the page.
"""
