"""Personal data: a key for every person, their fields encrypted with it, and erasure by destroying the key.

* ``cipher``: one person's key at work, and the text form of what it encrypts.
* ``fields``: which fields of an event class are personal, and whose they are.
* ``guard``: events and states, encrypted on the way in and decrypted on the way out.
* ``erasures``: whose keys were destroyed before a backup was restored.
* ``keys``: where persons' keys are kept, and destroyed.
* ``master``: the key that the persons' keys are wrapped with.
"""
