// How often does each word occur? The body is a text, the answer JSON, its
// most frequent words first. A query may ask for more: /wordcount?top=3
// gives three words instead of ten, and &least=4 leaves out shorter ones.
//
// It is a handler of the kind that Express has, so it can be tried without a
// platform:
//
//     node -p 'require("./index.js").count("to be or not to be", 2, 1)'
//
// A word is a run of letters and digits of any alphabet (\p{L}, \p{N}), with
// an apostrophe inside it if need be: "don't" is one word, "'tis'" is tis.

const WORD = /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu;

function count(text, top, least) {
  const times = new Map();
  const words = (text.toLowerCase().match(WORD) || [])
    .filter((word) => [...word].length >= least);
  for (const word of words) times.set(word, (times.get(word) || 0) + 1);
  const sorted = [...times].sort((a, b) => b[1] - a[1]);
  return { words: words.length, different: times.size,
           top: Object.fromEntries(sorted.slice(0, top)) };
}

module.exports = (req, res) => {
  const { top = "10", least = "1" } = req.query;
  if (!/^\d+$/.test(top) || !/^\d+$/.test(least))
    return res.status(400).send("top and least are whole numbers\n");
  res.json(count(req.body, Number(top), Number(least)));
};

module.exports.count = count;
