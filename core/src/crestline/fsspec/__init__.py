"""`firecrest://SYSTEM/PATH` for everything that reads and writes through fsspec: pandas, pyarrow, Dask, `UPath`.

fsspec finds it by its entry point; nothing has to be imported. The extra `crestline[fsspec]` installs what it needs.
"""

from crestline.fsspec.filesystem import FirecRESTFileSystem

__all__ = ["FirecRESTFileSystem"]
