"""Where file events can be had: the type of the file system that a folder is on."""

import sys
from pathlib import Path

import pytest

from nanostream_services.processes.shares import file_system_type, is_network, mounts, share_type

SERVER = """\
22 29 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
29 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
96 29 8:1 / /boot/efi rw,relatime shared:32 - vfat /dev/sda1 rw,fmask=0077
101 29 0:44 / /net rw,relatime shared:51 - autofs systemd-1 rw,fd=50,pgrp=1,timeout=0
612 101 0:58 / /net/titan rw,relatime shared:333 - nfs4 10.0.0.7:/export rw,vers=4.2,hard
733 29 0:61 / /mnt/camera\\040pc/data rw,relatime shared:401 - cifs //10.0.0.4/data rw,vers=3.1.1
801 29 0:66 / /home/op/scope rw,nosuid,nodev - fuse.sshfs op@scope:/data rw,user_id=1000
811 29 8:17 / /mnt/usb rw,relatime shared:460 - fuseblk /dev/sdb1 rw,user_id=0
830 29 8:33 / /mnt/data rw,relatime - xfs /dev/sdc1 rw,attr2,inode64
831 830 0:71 / /mnt/data rw,relatime - nfs 10.0.0.9:/vol rw,vers=3
"""
WSL = """\
64 65 8:32 / / rw,relatime - ext4 /dev/sdc rw,discard
78 64 0:59 / /mnt/c rw,noatime - 9p C:\\134 rw,aname=drvfs;path=C:\\;uid=1000
"""
CONTAINER = """\
1021 860 0:152 / / rw,relatime master:326 - overlay overlay rw,lowerdir=/var/lib/x - y
1054 1021 0:160 /data /watch rw,relatime master:1 - virtiofs host rw
"""
MACOS = """\
/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
/dev/disk3s5 on /System/Volumes/Data (apfs, local, journaled, nobrowse)
//op@scope._smb._tcp.local/data on /Volumes/camera pc (smbfs, nodev, nosuid, mounted by op)
"""


@pytest.mark.parametrize(
    ("mounts", "path", "kind", "network"),
    [
        (SERVER, "/data/today", "ext4", False),
        (SERVER, "/boot/efi", "vfat", False),
        (SERVER, "/net/titan/today", "nfs4", True),
        (SERVER, "/net/titanic", "autofs", False),
        (SERVER, "/mnt/camera pc/data/today", "cifs", True),
        (SERVER, "/mnt/camera pc", "ext4", False),
        (SERVER, "/home/op/scope", "fuse.sshfs", True),
        (SERVER, "/mnt/usb/today", "fuseblk", False),
        (SERVER, "/mnt/data/today", "nfs", True),  # mounted over the local disk
        (SERVER, "/mnt/database", "ext4", False),
        (WSL, "/mnt/c/SerialEM", "9p", True),
        (WSL, "/home/op", "ext4", False),
        (CONTAINER, "/watch/today", "virtiofs", True),
        (CONTAINER, "/tmp", "overlay", False),
        (MACOS, "/Volumes/camera pc/today", "smbfs", True),
        (MACOS, "/Users/op", "apfs", False),
        ("", "/data", "", False),
    ],
)
def test_the_type_of_the_file_system_is_that_of_the_innermost_mount(mounts, path, kind, network):
    assert file_system_type(mounts, path) == kind
    assert is_network(kind) == network


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux")
def test_the_type_of_this_machines_own_file_systems_is_found():
    assert file_system_type(mounts(), "/proc/self") == "proc"
    assert share_type(Path("/proc/self")) is None


@pytest.mark.skipif(sys.platform == "win32", reason="mount tables of POSIX")
def test_a_folder_below_the_mount_point_of_a_share_is_on_it(tmp_path):
    point = str(tmp_path.resolve()).replace(" ", "\\040")
    table = f"29 1 8:2 / / rw - ext4 /dev/sda2 rw\n30 29 0:9 / {point} rw - cifs //scope/data rw\n"
    assert share_type(tmp_path / "today", lambda: table) == "cifs"
    assert share_type(Path("/"), lambda: table) is None


@pytest.mark.skipif(sys.platform == "win32", reason="mount tables of POSIX")
def test_without_a_mount_table_a_folder_counts_as_one_of_this_machine(tmp_path):
    def refuse():
        raise PermissionError(13, "Permission denied")

    assert share_type(tmp_path, refuse) is None
