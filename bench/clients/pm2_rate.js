// Asks PM2 for the status of all, one request after another by its own client; prints how often a second.
const pm2 = require(process.argv[2]);
const seconds = Number(process.argv[3]);
pm2.connect((error) => {
  if (error) throw error;
  const begun = process.hrtime.bigint();
  let count = 0;
  const ask = () => pm2.list((failed) => {
    if (failed) throw failed;
    count += 1;
    const spent = Number(process.hrtime.bigint() - begun) / 1e9;
    if (spent < seconds) return ask();
    console.log(count / spent);
    pm2.disconnect();
    process.exit(0);
  });
  ask();
});
