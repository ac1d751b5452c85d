"""File system images, made by the tools that make them: mksquashfs, sqfstar, tar2sqfs, mkfs.erofs, mke2fs.

``options``  what may be asked
``tools``    which of them there are, their versions, the packages they come in; what a version can do is pure
``commands`` options -> their command lines; pure
``extsize``  how large an ext4 has to be; pure
``process``  a tool while it runs: fed, waited for, killed, its last words
``image``    the file that it makes: under a temporary name, flushed, renamed
``pipe``     a sink that feeds a tool with a tar
``tree``     a sink that writes a directory and lets a tool read that
``opening``  which of these it will be
"""
