"""The roles of the motor trade, and what each of them may do: a file beside this one."""

from pathlib import Path

FILE = Path(__file__).with_name("roles.toml")
