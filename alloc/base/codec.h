// SPDX-License-Identifier: MIT
// ByteWriter and ByteReader: little-endian encoding of variable-length records. The reader never
// reads outside its bytes, whatever lengths they contain.
#pragma once

#include <boost/endian/conversion.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/assert.h"
#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/load.h"
#include "alloc/base/uuid.h"

namespace moltfs {

/// Appends to a growing vector.
class ByteWriter {
 public:
  void u8(uint8_t v) { data_.push_back(static_cast<std::byte>(v)); }
  void u16(uint16_t v) { append_integer(v); }
  void u32(uint32_t v) { append_integer(v); }
  void u64(uint64_t v) { append_integer(v); }
  void bytes(ConstBytes b) { data_.insert(data_.end(), b.begin(), b.end()); }
  void uuid(const Uuid& id) { bytes(std::as_bytes(std::span(id.bytes))); }
  /// u16 length, then the bytes. REQUIRES: text.size() <= 65535.
  void string(std::string_view text) {
    ASSERT(text.size() <= UINT16_MAX);
    u16(static_cast<uint16_t>(text.size()));
    bytes(std::as_bytes(std::span(text)));
  }
  /// u32 length, then the bytes. REQUIRES: b.size() fits.
  void blob(ConstBytes b) {
    ASSERT(b.size() <= UINT32_MAX);
    u32(static_cast<uint32_t>(b.size()));
    bytes(b);
  }
  /// The bytes of a trivially copyable on-disk struct.
  template <class T>
  void object(const T& value) {
    bytes(object_bytes(value));
  }
  void zeros(size_t count) { data_.resize(data_.size() + count); }

  size_t size() const { return data_.size(); }
  ConstBytes span() const { return data_; }
  std::vector<std::byte> take() { return std::move(data_); }

 private:
  template <class T>
  void append_integer(T v) {
    v = boost::endian::native_to_little(v);
    bytes(object_bytes(v));
  }

  std::vector<std::byte> data_;
};

/// Reads from front to back. If fewer bytes are left than a method needs, the method fails with the
/// code given at construction and the reader stays where it was.
class ByteReader {
 public:
  explicit ByteReader(ConstBytes data, Errc when_short = Errc::bad_item)
      : data_(data), when_short_(when_short) {}

  Result<uint8_t> u8() { return integer<uint8_t>(); }
  Result<uint16_t> u16() { return integer<uint16_t>(); }
  Result<uint32_t> u32() { return integer<uint32_t>(); }
  Result<uint64_t> u64() { return integer<uint64_t>(); }
  /// A view of the next `count` bytes; lives as long as the data given at construction.
  Result<ConstBytes> bytes(size_t count) {
    if (count > left()) return too_short(count);
    ConstBytes piece = data_.subspan(at_, count);
    at_ += count;
    return piece;
  }
  Result<Uuid> uuid() {
    TRY(auto raw, bytes(sizeof(Uuid::bytes)));
    return Uuid{*load<decltype(Uuid::bytes)>(raw)};
  }
  /// u16 length, then the bytes.
  Result<std::string> string() {
    const size_t before = at_;
    TRY(auto length, u16());
    auto raw = bytes(length);
    if (!raw) {
      at_ = before;
      return raw.error();
    }
    return std::string(reinterpret_cast<const char*>(raw.value().data()), length);
  }
  /// u32 length, then the bytes (a view).
  Result<ConstBytes> blob() {
    const size_t before = at_;
    TRY(auto length, u32());
    auto raw = bytes(length);
    if (!raw) at_ = before;
    return raw;
  }
  /// A trivially copyable on-disk struct.
  template <class T>
  Result<T> object() {
    TRY(auto raw, bytes(sizeof(T)));
    return *load<T>(raw);
  }

  size_t position() const { return at_; }
  size_t left() const { return data_.size() - at_; }
  bool at_end() const { return left() == 0; }

 private:
  template <class T>
  Result<T> integer() {
    TRY(auto raw, bytes(sizeof(T)));
    return boost::endian::little_to_native(*load<T>(raw));
  }
  Error too_short(size_t need) const {
    return Error(when_short_, "record ends early: " + std::to_string(need) + " bytes needed, " +
                                  std::to_string(left()) + " left");
  }

  ConstBytes data_;
  Errc when_short_;
  size_t at_ = 0;
};

}  // namespace moltfs
