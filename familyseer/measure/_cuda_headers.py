"""Compiling CUDA without reading CUDA's C++ library.

Every source that TVM generates, and what it puts in front for nvrtc, includes three headers of
``cuda/std`` for the names of integers, a few traits and infinity. Reading them takes nvrtc 0.85 of
the 1.1 s of processor time that a candidate takes, and precompiling them needs 210 MB. Here are the
same names in a page. A source that asks for more of the library does not compile with them, and is
compiled with the library then: it never gets another meaning.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONS = "TVM_CUDA_NVRTC_EXTRA_OPTS"
_NAME = "cuda_std.h"
_SIGNED = ("signed char", "short", "int", "long", "long long")
_PLAIN = ("bool", "char", "wchar_t", "char16_t", "char32_t", *_SIGNED)
_UNSIGNED = tuple(f"unsigned {kind.removeprefix('signed ')}" for kind in _SIGNED)
_FLOATING = ("float", "double", "long double")


def _trait(name: str, types: tuple[str, ...]) -> str:
    """A trait of types that says yes to those given, whatever their qualifiers."""
    lines = [f"template <class T> struct {name}_of : false_type {{}};"]
    lines += [f"template <> struct {name}_of<{kind}> : true_type {{}};" for kind in types]
    lines.append(f"template <class T> struct {name} : {name}_of<typename remove_cv<T>::type> {{}};")
    return "\n".join(lines)


# the guards are those of the library's own headers, which are then skipped
_HEADER = f"""#pragma once
#define _CUDA_STD_CSTDINT
#define _CUDA_STD_LIMITS
#define _CUDA_STD_TYPE_TRAITS
namespace cuda {{ namespace std {{
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
template <class T> struct numeric_limits;
template <> struct numeric_limits<float> {{
  static __device__ __forceinline__ float infinity() {{ return __int_as_float(0x7f800000); }}
}};
template <class T, T v> struct integral_constant {{ static constexpr T value = v; }};
typedef integral_constant<bool, true> true_type;
typedef integral_constant<bool, false> false_type;
template <class T> struct remove_cv {{ typedef T type; }};
template <class T> struct remove_cv<const T> {{ typedef T type; }};
template <class T> struct remove_cv<volatile T> {{ typedef T type; }};
template <class T> struct remove_cv<const volatile T> {{ typedef T type; }};
template <class A, class B> struct is_same : false_type {{}};
template <class A> struct is_same<A, A> : true_type {{}};
template <class A, class B> inline constexpr bool is_same_v = is_same<A, B>::value;
template <bool, class T = void> struct enable_if {{}};
template <class T> struct enable_if<true, T> {{ typedef T type; }};
template <bool, class A, class B> struct conditional {{ typedef A type; }};
template <class A, class B> struct conditional<false, A, B> {{ typedef B type; }};
{_trait("is_integral", _PLAIN + _UNSIGNED)}
{_trait("is_floating_point", _FLOATING)}
{_trait("is_signed", _SIGNED + _FLOATING)}
template <> struct is_signed_of<char> : integral_constant<bool, (char(-1) < char(0))> {{}};
{_trait("is_unsigned", ("bool", *_UNSIGNED))}
template <> struct is_unsigned_of<char> : integral_constant<bool, (char(-1) > char(0))> {{}};
}} }}
"""


@contextmanager
def light_headers(folder: str) -> Iterator[None]:
    """While it is open, TVM's CUDA compiler takes the names from one small header.

    Parameters
    ----------
    folder
        Where the header is written.
    """
    path = os.path.join(folder, _NAME)
    with open(path, "w", encoding="ascii") as file:
        file.write(_HEADER)
    before = os.environ.get(_OPTIONS)
    os.environ[_OPTIONS] = f"{before or ''} --pre-include={path}".strip()
    try:
        yield
    finally:
        os.remove(path)
        if before is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = before
