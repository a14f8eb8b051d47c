"""Enrol once and kill this process at a change of the disk (see power_cut.py, test_identity.py).

python -m tests.unit.edge_client.killed_enrolment HOME PORT CA before|after WHERE
"""

import sys
from pathlib import Path

from edge_client import EdgeHome, Wanted, enroll
from edge_client.address import ServerAddress
from edge_client.identity import Credential
from tests.unit.edge_client.power_cut import cut_power

HOME, PORT, CA, WHEN, WHERE = sys.argv[1:]
cut_power(WHEN, WHERE)
fleet = Credential.from_pem(Path(CA).read_bytes())
enroll(EdgeHome(Path(HOME)), ServerAddress("127.0.0.1", int(PORT)), Wanted("digits", "t"), fleet)
