"""File system images, made by installed tools: mksquashfs, sqfstar, tar2sqfs, mkfs.erofs, mke2fs.

``options``   what a caller can ask for
``tools``     the base class of the tools; finding a program and its version
``squashfs``  mksquashfs, sqfstar and tar2sqfs: what each can store, its command line
``erofs``     mkfs.erofs: the same
``ext4``      mke2fs: the same, and debugfs for what mke2fs leaves out
``ext4_size`` how large an ext4 image must be; pure
``registry``  which tools make which file system; chooses one
``commands``  a command line with its environment, as a value; pure
``process``   a running tool: its input, its output, its exit code
``image``     the image file: written under a temporary name, flushed, renamed
``plaintar``  entries in the simplest encoding that the tools read correctly; pure
``pipe``      a sink that writes a tar to a tool's standard input
``tree``      a sink that writes a directory, which a tool then reads
``opening``   chooses the tool and the sink, and connects them

To add a tool, write a subclass of :class:`~streamerge.sinks.mkfs.tools.MkfsTool` and name it in ``registry``.
"""
