# SPDX-License-Identifier: MIT
"""All peers by name."""
from peers import Btrfs, Ext4, Moltfs, MoltfsHalting, Passthrough, Raw
from peers_user import Fuse2fs, Qemu, ZfsFuse

PEERS = {peer.name: peer for peer in
         (Moltfs, MoltfsHalting, Btrfs, Ext4, Passthrough, Fuse2fs, ZfsFuse, Qemu, Raw)}
QUICK_PEERS = ("moltfs", "btrfs", "passthrough", "raw")
