// Zip archives: written without compression (weights do not compress), read stored or deflated.

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
/** Flag bit 11: names are UTF-8. */
const UTF8 = 0x0800;
/** 1980-01-01, the first date that the format knows: archives of equal content are equal. */
const DATE = 0x0021;
const LARGEST = 2 ** 32 - 1;

/** Packs files by path into one archive. */
export function writeZip(files: Record<string, Uint8Array>): Blob {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const central: Uint8Array<ArrayBuffer>[] = [];
  let offset = 0;
  for (const [path, content] of Object.entries(files)) {
    const name = new TextEncoder().encode(path);
    const common = [20, UTF8, 0, 0, DATE];
    const sizes = [crc32(content), content.length, content.length];
    const local = record([[LOCAL], common, sizes, [name.length, 0]], "4 22222 444 22");
    central.push(record([[CENTRAL], [20, ...common], sizes, [name.length, 0, 0, 0, 0], [0, offset]], "4 222222 444 22222 44"), name);
    parts.push(local, name, content as Uint8Array<ArrayBuffer>);
    offset += local.length + name.length + content.length;
  }
  const size = central.reduce((sum, part) => sum + part.length, 0);
  const count = Object.keys(files).length;
  if (offset + size > LARGEST) throw new Error("a checkpoint over 4 GiB does not fit into a zip file");
  const end = record([[END], [0, 0, count, count], [size, offset], [0]], "4 2222 44 2");
  return new Blob([...parts, ...central, end], { type: "application/zip" });
}

/** The files of an archive by path. */
export async function readZip(archive: Uint8Array<ArrayBuffer>): Promise<Record<string, Uint8Array>> {
  const view = new DataView(archive.buffer, archive.byteOffset, archive.byteLength);
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  const files: Record<string, Uint8Array> = {};
  for (let i = 0; i < count; i += 1) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== CENTRAL) throw damaged();
    const nameLength = view.getUint16(at + 28, true);
    const name = new TextDecoder().decode(archive.subarray(at + 46, at + 46 + nameLength));
    if (!name.endsWith("/")) files[name] = await content(archive, view, at, name);
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
  return files;
}

async function content(archive: Uint8Array<ArrayBuffer>, view: DataView, at: number, name: string): Promise<Uint8Array> {
  const method = view.getUint16(at + 10, true);
  const packed = view.getUint32(at + 20, true);
  const size = view.getUint32(at + 24, true);
  const local = view.getUint32(at + 42, true);
  if (local + 30 > view.byteLength || view.getUint32(local, true) !== LOCAL) throw damaged();
  const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
  if (start + packed > view.byteLength) throw damaged();
  let bytes: Uint8Array = archive.subarray(start, start + packed);
  if (method === 8) {
    const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const unpacked = await new Response(stream).arrayBuffer().catch(() => {
      throw damaged();
    });
    bytes = new Uint8Array(unpacked);
  } else if (method !== 0) {
    throw new Error(`\`${name}\` is packed in a way that this page cannot read`);
  }
  if (bytes.length !== size || crc32(bytes) !== view.getUint32(at + 16, true)) throw damaged();
  return bytes.slice();
}

function findEnd(view: DataView): number {
  // The comment behind the record has at most 65,535 bytes.
  for (let at = view.byteLength - 22; at >= Math.max(0, view.byteLength - 65_557); at -= 1) {
    if (view.getUint32(at, true) === END) return at;
  }
  throw new Error("this is no zip file");
}

/** Little-endian fields; `widths` gives the bytes of each, blanks are for the reader. */
function record(fields: number[][], widths: string): Uint8Array<ArrayBuffer> {
  const sizes = [...widths.replaceAll(" ", "")].map(Number);
  const view = new DataView(new ArrayBuffer(sizes.reduce((sum, size) => sum + size, 0)));
  let at = 0;
  fields.flat().forEach((value, i) => {
    if (sizes[i] === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += sizes[i]!;
  });
  return new Uint8Array(view.buffer);
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i += 1) crc = CRC_TABLE[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function damaged(): Error {
  return new Error("the zip file is damaged or incomplete");
}
